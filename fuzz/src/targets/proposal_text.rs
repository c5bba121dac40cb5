//! Proposals as text, and the negotiation of two of them: what one side chooses the other accepts.

use ike::proposal::negotiate;
use ike::wire::numbers::ProtocolId;
use ike::wire::sa::Proposal;
use ike::{EspProposal, IkeProposal};

/// Runs the target: lines are proposals, the first empty line parts the two sides.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (left, right) = text.split_once("\n\n").unwrap_or((&text, &text));
    let parse_ike =
        |side: &str| side.lines().take(8).filter_map(|l| l.parse().ok()).collect::<Vec<IkeProposal>>();
    let parse_esp =
        |side: &str| side.lines().take(8).filter_map(|l| l.parse().ok()).collect::<Vec<EspProposal>>();
    for line in text.lines().take(16) {
        match line.parse::<IkeProposal>() {
            Ok(p) => assert_eq!(p.to_string().parse::<IkeProposal>().as_ref(), Ok(&p), "{line:?}"),
            Err(e) => drop(e.to_string()),
        }
        match line.parse::<EspProposal>() {
            Ok(p) => assert_eq!(p.to_string().parse::<EspProposal>().as_ref(), Ok(&p), "{line:?}"),
            Err(e) => drop(e.to_string()),
        }
    }
    let (a, b) = (parse_ike(left), parse_ike(right));
    let offer = negotiate::offer(ProtocolId::IKE, &[1; 8], a.iter().map(IkeProposal::transforms), true);
    if let Some((chosen, choice)) = negotiate::choose_ike(&b, &offer) {
        let answer = [Proposal { transforms: choice.transforms(), ..chosen }];
        assert_eq!(negotiate::accept_ike(&a, &answer), Some(choice), "{left:?} {right:?}");
    }
    let (a, b) = (parse_esp(left), parse_esp(right));
    for with_group in [false, true] {
        let transforms = a.iter().map(EspProposal::transforms);
        let offer = negotiate::offer(ProtocolId::ESP, &[1; 4], transforms, with_group);
        if let Some((chosen, choice)) = negotiate::choose_esp(&b, &offer, with_group) {
            let answer = [Proposal { transforms: choice.transforms(), ..chosen }];
            assert_eq!(negotiate::accept_esp(&a, &answer, with_group), Some(choice), "{left:?} {right:?}");
        }
    }
}
