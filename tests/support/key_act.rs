//! What an operator does to a Seller's keys, one act at a time.

use std::io;

use serde_json::Value;
use truckradar::{
    control,
    operator::{self, Answer, Command},
};

use super::binary::Place;

/// Why a key is expired.
const REASON: &str = "leaked";

/// One act. The Seller is always `lone-star`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAct {
    Generate,
    Prepare,
    CutOver,
    Discard,
    Expire,
}

impl KeyAct {
    /// Whether it gives the Seller another live key.
    pub fn replaces(self) -> bool {
        matches!(self, Self::Generate | Self::CutOver)
    }

    /// Whether it makes a key, and so answers with one.
    pub fn makes(self) -> bool {
        matches!(self, Self::Generate | Self::Prepare)
    }

    /// By the program itself, as an operator would.
    pub fn by_program(self, place: &Place) -> Value {
        let words: &[&str] = match self {
            Self::Generate => &["generate"],
            Self::Prepare => &["prepare"],
            Self::CutOver => &["cut-over"],
            Self::Discard => &["discard"],
            Self::Expire => &["expire", "--reason", REASON],
        };
        place.json(&[&["key"], words, &["--seller", "lone-star"]].concat(), "")
    }

    /// Over the server's socket, which is quicker; it must be there and do it.
    pub async fn by_socket(self, place: &Place) -> Value {
        let answer = self.try_by_socket(place).await.expect("can be asked");
        answer.expect("a server answers").expect("is not refused")
    }

    /// The same, of a server that may be gone before it answers.
    pub async fn try_by_socket(self, place: &Place) -> io::Result<Option<Answer>> {
        control::ask(&place.database_file(), &self.command()).await
    }

    /// As quickly as the place lets it be done beside a server; it must be done.
    pub async fn quickly(self, place: &Place) -> Value {
        self.try_quickly(place).await.expect("is not refused")
    }

    /// The same, where another may be quicker still.
    pub async fn try_quickly(self, place: &Place) -> Answer {
        if place.is_on_postgres() {
            return self.in_this_process(place).await;
        }
        let answer = self.try_by_socket(place).await.expect("can be asked");
        answer.expect("a server answers")
    }

    /// As the program does it on a database that it shares, without the start of a process.
    async fn in_this_process(self, place: &Place) -> Answer {
        operator::perform(place.services().await, self.command()).await
    }

    fn command(self) -> Command {
        let seller = "lone-star".parse().expect("a slug");
        match self {
            Self::Generate => Command::KeyGenerate { seller },
            Self::Prepare => Command::KeyPrepare { seller },
            Self::CutOver => Command::KeyCutOver { seller },
            Self::Discard => Command::KeyDiscard { seller },
            Self::Expire => Command::KeyExpire {
                seller,
                reason: REASON.to_owned(),
            },
        }
    }
}
