//! The words of `forebay torture`.

use lexopt::prelude::*;
use lexopt::Parser;

use super::{text, usage, Invocation, Misuse, Torture};
use crate::gateway::torture::campaign::CAMPAIGNS;

pub(super) fn torture(parser: &mut Parser) -> Result<Invocation, Misuse> {
    let mut task = Torture::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return text(Some("torture")),
            Long("campaign") => task.campaign = Some(campaign(&parser.value()?.string()?)?),
            Long("cuts") => task.cuts = Some(parser.value()?.parse()?),
            Long("seed") => task.seed = Some(parser.value()?.parse()?),
            Long("threads") => task.threads = Some(parser.value()?.parse()?),
            Long("case") => task.case = Some(parser.value()?.parse()?),
            Long("cut") => task.cut = Some(parser.value()?.parse()?),
            Long("second") => task.second = Some(parser.value()?.parse()?),
            Long("on") => task.on = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    if task.on.is_some() && task.campaign.is_some() {
        return usage("--on runs a broker on a file; the campaigns run on devices in memory");
    }
    if task.case.is_some() && task.campaign.is_none() {
        return usage("--case is a case of a campaign: say which with --campaign NAME");
    }
    Ok(Invocation::Torture(task))
}

fn campaign(name: &str) -> Result<&'static str, Misuse> {
    match CAMPAIGNS.iter().find(|campaign| campaign.name == name) {
        Some(campaign) => Ok(campaign.name),
        None => {
            let names: Vec<&str> = CAMPAIGNS.iter().map(|campaign| campaign.name).collect();
            usage(format!("there is no campaign {name}; there are {}", names.join(", ")))
        }
    }
}
