//! What stands around every page: its title, who is signed in, which Seller it is about, and the way to other pages.
//!
//! Never: a link to a Seller's page that does not name the Seller.

use super::assets;
use crate::accounts::{
    AccountKind,
    sessions::{Member, Session},
};

/// Dealers in the switcher at most; of more, the page of all keys finds one.
const LISTED_MAX: usize = 40;
/// From so many on the switcher has a field to search them.
const SEARCHED_FROM: usize = 10;

/// See the module.
#[derive(Clone, Debug)]
pub struct Shell {
    /// The page's title.
    pub title: String,
    /// Which of the main pages it is, to mark it in the navigation.
    pub section: Section,
    /// Who is signed in, and which Seller the page is about.
    pub inside: Option<Inside>,
}

/// The main pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `/dashboard`.
    Overview,
    /// `/dashboard/inventory`.
    Inventory,
    /// `/dashboard/settings`.
    Settings,
    /// `/dashboard/keys`.
    Keys,
    /// `/docs`.
    Docs,
    /// Any other.
    None,
}

/// The part of a shell for somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Who.
    pub email: String,
    /// The Seller that the page is about; none on a page that is about no Seller.
    pub seller: Option<Choice>,
    /// Every Seller that the User may look at.
    pub sellers: Vec<Choice>,
}

/// A Seller to go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Whether it is a Platform's account.
    pub is_platform: bool,
}

impl Shell {
    /// For a page that needs no sign-in.
    pub fn outside(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            section: Section::None,
            inside: None,
        }
    }

    /// For a page about what went wrong, for somebody who may be signed in.
    pub fn of_problem(title: &str, email: Option<&str>) -> Self {
        Self {
            inside: email.map(|email| Inside {
                email: email.to_owned(),
                seller: None,
                sellers: Vec::new(),
            }),
            ..Self::outside(title)
        }
    }

    /// For a page about one Seller.
    pub fn inside(title: &str, section: Section, session: &Session, member: &Member) -> Self {
        Self {
            title: title.to_owned(),
            section,
            inside: Some(Inside {
                email: session.email().to_owned(),
                seller: Some(Choice {
                    slug: member.slug().to_owned(),
                    name: member.name().to_owned(),
                    is_platform: member.is_of_platform(),
                }),
                sellers: choices(session),
            }),
        }
    }

    /// For a page that anybody may read, read by somebody who may be signed in.
    pub fn open(title: &str, section: Section, session: Option<&Session>) -> Self {
        Self {
            title: title.to_owned(),
            section,
            inside: session.map(|session| Inside {
                email: session.email().to_owned(),
                seller: None,
                sellers: choices(session),
            }),
        }
    }

    /// Whether whoever is signed in works for several dealers.
    pub fn has_several(&self) -> bool {
        let inside = self.inside.as_ref();
        inside.is_some_and(Inside::has_several)
    }

    /// What a browser's tab says: for whoever works for several dealers also which one the page is about.
    pub fn tab(&self) -> String {
        let dealer = self.dealer();
        match self.has_several() && !dealer.is_empty() && self.section != Section::Keys {
            true => format!("{} · {dealer} · TruckRadar", self.title),
            false => format!("{} · TruckRadar", self.title),
        }
    }

    /// What the Seller that the page is about is called; see [`Inside::called`]. Nothing on a page that is about none.
    pub fn dealer(&self) -> String {
        let inside = self.inside.as_ref();
        let seller = inside.and_then(|inside| Some(inside.called(inside.seller.as_ref()?)));
        seller.unwrap_or_default()
    }

    /// Whether it is the main page of this name, as the navigation calls it.
    pub fn is_in(&self, name: &str) -> bool {
        let own = match self.section {
            Section::Overview => "Overview",
            Section::Inventory => "Inventory",
            Section::Settings => "Settings",
            Section::Keys => "All keys",
            Section::Docs => "Docs",
            Section::None => return false,
        };
        own == name
    }

    /// Whether a reader who is not signed in is offered to: not on the pages that are about coming in.
    pub fn offers_sign_in(&self) -> bool {
        self.section == Section::Docs
    }

    /// Where the stylesheet is; its name changes with its content.
    pub fn style(&self) -> &'static str {
        assets::STYLE.path()
    }

    /// Where the script is.
    pub fn script(&self) -> &'static str {
        assets::SCRIPT.path()
    }

    /// Where the icon is.
    pub fn icon(&self) -> &'static str {
        assets::ICON.path()
    }

    /// Where this main page is for another Seller; a page that is none leads to the overview.
    pub fn section_path(&self) -> &'static str {
        match self.section {
            Section::Inventory => "/dashboard/inventory",
            Section::Settings => "/dashboard/settings",
            _ => "/dashboard",
        }
    }
}

impl Inside {
    /// Whether there is a Seller whose pages could be gone to.
    pub fn has_pages(&self) -> bool {
        self.seller.is_some() || !self.sellers.is_empty()
    }

    /// Whether the page is about a Platform.
    pub fn is_platform(&self) -> bool {
        self.seller.as_ref().is_some_and(|own| own.is_platform)
    }

    /// Whether the User works for several dealers.
    pub fn has_several(&self) -> bool {
        self.sellers.len() > 1
    }

    /// Whether links to a Seller's pages say which Seller they lead to: it is this page's, or there is one only.
    pub fn knows_seller(&self) -> bool {
        self.seller.is_some() || self.sellers.len() == 1
    }

    /// The Sellers that the switcher lists: all, or none if those are too many for a list.
    pub fn listed(&self) -> &[Choice] {
        match self.sellers.len() {
            0..=LISTED_MAX => &self.sellers,
            _ => &[],
        }
    }

    /// Whether the switcher offers to search.
    pub fn is_searched(&self) -> bool {
        self.sellers.len() >= SEARCHED_FROM
    }

    /// Whether this is the Seller of the page.
    pub fn is_here(&self, choice: &Choice) -> bool {
        self.seller.as_ref() == Some(choice)
    }

    /// What a Seller is called among those of the User: by its name, and where another one has the same by its short name too.
    pub fn called(&self, choice: &Choice) -> String {
        let name = choice.name.to_lowercase();
        let is_alike = |other: &Choice| other.name.to_lowercase() == name && other != choice;
        match self.sellers.iter().any(is_alike) {
            true => format!("{} ({})", choice.name, choice.slug),
            false => choice.name.clone(),
        }
    }

    /// What the addresses of this Seller's pages end in.
    pub fn query(&self) -> String {
        match &self.seller {
            Some(seller) => format!("?seller={}", seller.slug),
            None => String::new(),
        }
    }
}

fn choices(session: &Session) -> Vec<Choice> {
    let memberships = session.memberships().iter();
    memberships
        .map(|m| Choice {
            slug: m.slug.clone(),
            name: m.name.clone(),
            is_platform: m.kind == AccountKind::Platform,
        })
        .collect()
}
