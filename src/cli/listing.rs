//! `truckradar listing …`.
//!
//! Never: an act performed here: it is the server's, or [`crate::operator`]'s.

use clap::Subcommand;

use super::{Common, IfMissing, perform, print};
use crate::operator::Command;

/// What can be done to single listings.
#[derive(Subcommand)]
pub(super) enum ListingCommand {
    /// End whichever dealer's active listing of a VIN, so that another dealer may list it.
    Release {
        /// The VIN.
        #[arg(long, value_name = "VIN")]
        vin: String,
    },
}

impl ListingCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let Self::Release { vin } = self;
        let answer = perform(common, Command::ListingRelease { vin }, IfMissing::Refuse).await?;
        if common.json {
            return print::json(&answer);
        }
        let released = &answer["released"];
        print::text(&format!(
            "{} is free: the listing of Seller {} is expired now.",
            print::plain(&released["vin"]),
            print::plain(&released["seller_id"])
        ))
    }
}
