//! `brig audit`: what the journal says, without a supervisor.

use brig_core::problem::{Code, Problem};
use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Stop};

/// Arguments of `brig audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check that no entry of the journal was changed, removed or added
    Verify,
    /// Print every entry as a line of JSON
    Export,
}

/// SEAM: reads the journal when that is there.
///
/// # Errors
/// What is wrong with the journal.
pub fn audit(_context: &Context, args: &Args) -> Result<Exit, Stop> {
    match args.what {
        What::Verify | What::Export => {
            Err(Problem::new(Code::Unsupported, "this brig is built without a journal").into())
        }
    }
}
