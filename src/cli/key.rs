//! `truckradar key …`.
//!
//! Never: a key printed but by `generate` and `prepare`, nor one taken from an argument.

use clap::Subcommand;
use serde_json::Value;

use super::{Common, IfMissing, perform, platform, print, read_text_with_key};
use crate::{
    accounts::Slug,
    operator::{AccountCommand, Command},
};

/// What can be done to keys.
#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a Seller's key and print it, once. The key before it is dead everywhere when this returns.
    #[command(
        after_help = "The key alone goes to standard output, everything else to standard error, so that it can be piped:\n  \
        printf %s \"$(truckradar key generate --seller lone-star-trucks)\" | secret-manager put dealer-key\n\n\
        There is no grace period: every client that still sends the old key gets 401 from now on.\n\
        `truckradar key show` says which clients those are.\n\
        If somebody else replaces the key at the same moment, one of you is refused and is shown no key."
    )]
    Generate {
        /// Whose key.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// Make a Seller's next key and print it, once. It is not accepted until `key cut-over`; the present key goes on working.
    #[command(after_help = "To replace a key without losing a request:\n  \
        truckradar key prepare --seller lone-star-trucks      the next key; give it to every client beside the present one\n  \
        truckradar key cut-over --seller lone-star-trucks     the next key works, the present one is dead, in one act\n\n\
        A client that holds both keys and tries the other one on 401 notices nothing.")]
    Prepare {
        /// Whose key.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// Make the prepared key the live one. The key before it is dead everywhere when this returns.
    CutOver {
        /// Whose key.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// Kill the prepared key; the present one goes on working.
    Discard {
        /// Whose key.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// Kill a Seller's key, as after a leak. It is dead everywhere when this returns; the Seller then has none.
    #[command(
        after_help = "With --seller, doing it twice is no error: the second time there is nothing to do.\n\
        With --key-stdin the key itself is read from standard input, and that very key is killed: a live one, or a prepared one, \
        beside which the live one goes on. One that is dead already, or nobody's, is refused.\n\n\
        Examples:\n  truckradar key expire --seller lone-star-trucks --reason 'found in a public repository'\n  \
        truckradar key expire --key-stdin --reason 'found in a public repository' < found.txt"
    )]
    Expire {
        /// Whose key.
        #[arg(
            long,
            value_name = "SLUG",
            required_unless_present = "key_stdin",
            conflicts_with = "key_stdin"
        )]
        seller: Option<Slug>,
        /// Read the key from standard input instead, whosever it is.
        #[arg(long)]
        key_stdin: bool,
        /// Why, in words that the Seller will read.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Say from which networks a key is accepted; from anywhere else it is refused with 403. It stays so when it is replaced.
    #[command(
        after_help = "Addresses are those that the server sees: behind a proxy that is not named with --trusted-proxies, the proxy's.\n\n\
        Example:\n  truckradar key networks --seller lone-star-trucks --from 203.0.113.0/24,2001:db8::/48"
    )]
    Networks {
        /// Whose key; a Platform's slug will do as well.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        /// Addresses and networks, separated by commas.
        #[arg(
            long,
            value_name = "CIDR",
            value_delimiter = ',',
            required_unless_present = "anywhere",
            conflicts_with = "anywhere"
        )]
        from: Vec<String>,
        /// From anywhere, as in the beginning.
        #[arg(long)]
        anywhere: bool,
    },
    /// Read a string from standard input and say whose key it is and whether it is live.
    #[command(
        after_help = "The string never stands on the command line, where every user of the machine could read it:\n  \
        truckradar key identify < found.txt\n\n\
        Asking does not count as use of the key."
    )]
    Identify,
    /// Show what is known of a Seller's key and who used it in the last 24 hours; never the key itself.
    Show {
        /// Whose key.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
}

impl KeyCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        match self {
            Self::Generate { seller } => generate(common, seller).await,
            Self::Networks {
                seller,
                from,
                anywhere: _,
            } => {
                let networks = (!from.is_empty()).then(|| from.join(" "));
                let act = AccountCommand::Networks {
                    slug: seller,
                    networks,
                };
                platform::perform_on(common, act).await
            }
            Self::Prepare { seller } => {
                let answer =
                    perform(common, Command::KeyPrepare { seller }, IfMissing::Refuse).await?;
                if common.json {
                    return print::secret(&answer.to_string());
                }
                print::secret(&print::plain(&answer["key"]))?;
                eprintln!(
                    "This is the only time the key is shown. It answers 401, reason staged, until `key cut-over`; the present \
                     key goes on working."
                );
                Ok(())
            }
            Self::CutOver { seller } => {
                let command = Command::KeyCutOver {
                    seller: seller.clone(),
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                print::text(&format!(
                    "The prepared key {} of {seller} is live, and the one before it dead, {}.",
                    print::plain(&answer["key_id"]),
                    print::receipt(&answer["receipt"])
                ))
            }
            Self::Discard { seller } => {
                let command = Command::KeyDiscard {
                    seller: seller.clone(),
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                match answer["discarded"]["key_id"].as_str() {
                    Some(id) => print::text(&format!(
                        "The prepared key {id} of {seller} is dead {}.",
                        print::receipt(&answer["receipt"])
                    )),
                    None => print::text(&format!("{seller} has no prepared key; nothing to do.")),
                }
            }
            Self::Expire {
                seller,
                key_stdin: _,
                reason,
            } => {
                let Some(seller) = seller else {
                    return expire_this(common, reason).await;
                };
                let command = Command::KeyExpire {
                    seller: seller.clone(),
                    reason,
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let receipt = print::receipt(&answer["receipt"]);
                match answer["expired"]["key_id"].as_str() {
                    Some(id) => print::text(&format!(
                        "The key {id} of {seller} is dead {receipt}. {seller} has no live key now."
                    )),
                    None => print::text(&format!(
                        "{seller} had no live key; nothing to do. Obeyed {receipt}."
                    )),
                }
            }
            Self::Identify => {
                let text = read_text_with_key()?;
                let command = Command::KeyIdentify {
                    text: text.to_string(),
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let found = &answer["identified"];
                if found.is_null() {
                    // What is no key may still have been meant to be one: nobody's is said of a key only.
                    let verdict = match answer["reason"] == "malformed" {
                        true => "No key",
                        false => "Nobody's key",
                    };
                    return print::text(&format!(
                        "{verdict}: {}.",
                        print::plain(&answer["message"])
                    ));
                }
                let key = &found["key"];
                let mut facts = vec![
                    ("live", is_live(found).to_owned()),
                    (
                        match found["seller"]["kind"] == "platform" {
                            true => "platform",
                            false => "seller",
                        },
                        print::plain(&found["seller"]["slug"]),
                    ),
                    ("name", print::plain(&found["seller"]["name"])),
                ];
                facts.extend(key_facts(key));
                print::facts(&facts)?;
                leaks(&found["leaks"])
            }
            Self::Show { seller } => {
                let answer = perform(
                    common,
                    Command::KeyShow {
                        seller: seller.clone(),
                    },
                    IfMissing::Refuse,
                )
                .await?;
                if common.json {
                    return print::json(&answer);
                }
                show(&seller, &answer)
            }
        }
    }
}

/// Kills the key that stands on standard input.
async fn expire_this(common: &Common, reason: String) -> anyhow::Result<()> {
    let text = read_text_with_key()?;
    let command = Command::KeyExpireThis {
        text: text.to_string(),
        reason,
    };
    let answer = perform(common, command, IfMissing::Refuse).await?;
    if common.json {
        return print::json(&answer);
    }
    let seller = print::plain(&answer["seller"]["slug"]);
    let receipt = print::receipt(&answer["receipt"]);
    match answer["expired"]["key_id"].as_str() {
        Some(id) => print::text(&format!(
            "The key {id} of {seller} is dead {receipt}. {seller} has no live key now."
        )),
        None => print::text(&format!(
            "The prepared key {} of {seller} is dead {receipt}. The live key goes on working.",
            print::plain(&answer["discarded"]["key_id"])
        )),
    }
}

fn show(seller: &Slug, answer: &Value) -> anyhow::Result<()> {
    let last = answer["earlier"]
        .as_array()
        .and_then(|earlier| earlier.first());
    match (&answer["key"], last) {
        (Value::Null, None) => {
            print::text(&format!(
                "{seller} has no key yet. Make one: truckradar key generate --seller {seller}"
            ))?;
        }
        (Value::Null, Some(last)) => {
            print::text(&format!("{seller} has no live key; the last one:"))?;
            print::facts(&key_facts(last))?;
        }
        (key, _) => {
            print::facts(&key_facts(key))?;
            if key["shown"] == false {
                print::text("This key was never shown to anybody: generate again.")?;
            }
        }
    }
    let clients = answer["clients_24h"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if clients.is_empty() {
        return print::text("\nNo client used a key of this Seller in the last 24 hours.");
    }
    let live = &answer["key"]["id"];
    let rows = clients
        .iter()
        .map(|client| {
            vec![
                print::plain(&client["address"]),
                print::plain(&client["user_agent"]),
                if client["key_id"] == *live {
                    "live"
                } else {
                    "dead"
                }
                .to_owned(),
                print::plain(&client["accepted"]),
                print::plain(&client["unauthorized"]),
                print::plain(&client["barred"]),
                print::plain(&client["last_at"]),
            ]
        })
        .collect();
    print::text("\nClients of the last 24 hours:")?;
    print::table(
        &[
            "ADDRESS",
            "USER-AGENT",
            "KEY",
            "ACCEPTED",
            "401",
            "NOT LET IN",
            "LAST",
        ],
        rows,
    )
}

/// Whether an identified key is the live one, and what it means if it is not.
fn is_live(found: &Value) -> &'static str {
    match (&found["live"], found["key"]["state"].as_str()) {
        (Value::Bool(true), _) => "yes",
        (_, Some("staged")) => "not yet: it works from its cut-over on",
        _ => "no, it is dead",
    }
}

/// What is known of where a key was found.
fn leaks(leaks: &Value) -> anyhow::Result<()> {
    let leaks = leaks.as_array().map_or(&[][..], Vec::as_slice);
    if leaks.is_empty() {
        return Ok(());
    }
    let names = ["finder", "source", "place", "outcome", "times", "last_at"];
    let row = |leak: &Value| names.map(|name| print::plain(&leak[name])).to_vec();
    print::text("\nFound where it should not be:")?;
    print::table(
        &["BY", "KIND", "PLACE", "DONE", "TIMES", "LAST"],
        leaks.iter().map(row).collect(),
    )
}

fn key_facts(key: &Value) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("key", format!("tr_live_…{}", print::plain(&key["hint"]))),
        ("key id", print::plain(&key["id"])),
        ("state", print::plain(&key["state"])),
        ("made by", print::plain(&key["made_by"])),
        ("created", print::plain(&key["created_at"])),
    ];
    if !key["ended_at"].is_null() {
        facts.push(("ended", print::plain(&key["ended_at"])));
    }
    if !key["end_reason"].is_null() {
        facts.push(("reason", print::plain(&key["end_reason"])));
    }
    facts
}

/// Makes an account's key and prints it, once.
pub(super) async fn generate(common: &Common, seller: Slug) -> anyhow::Result<()> {
    let answer = perform(common, Command::KeyGenerate { seller }, IfMissing::Refuse).await?;
    if common.json {
        return print::secret(&answer.to_string());
    }
    print::secret(&print::plain(&answer["key"]))?;
    eprintln!("This is the only time the key is shown: store it in your secret manager.");
    let receipt = print::receipt(&answer["receipt"]);
    match answer["replaced"].as_str() {
        Some(_) => eprintln!("The key before it is dead {receipt}."),
        None => eprintln!("There was no live key before; this one is live {receipt}."),
    }
    Ok(())
}
