//! Every order in which what two sides have sent may arrive, with up to one message lost.

use super::{A, B, Pair, Who};

/// Choices made freely; what is sent after so many steps is delivered in order.
const STEPS: usize = 14;

/// One step: deliver or lose one of the messages under way.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    from: Who,
    at: usize,
    lose: bool,
}

fn steps(pair: &Pair, may_lose: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for lose in [false, true] {
        if lose && !may_lose {
            continue;
        }
        for (from, side) in [(A, &pair.a), (B, &pair.b)] {
            steps.extend((0..side.outbox.len()).map(|at| Step { from, at, lose }));
        }
    }
    steps
}

/// Plays one schedule. `choices` is what to take at each step, zero beyond its end; returns how many there were, and what was
/// taken.
pub fn play(pair: &mut Pair, choices: &[usize]) -> (Vec<usize>, Vec<Step>) {
    let (mut options, mut lost, mut told) = (Vec::new(), false, Vec::new());
    for depth in 0..STEPS {
        let steps = steps(pair, !lost);
        if steps.is_empty() {
            break;
        }
        options.push(steps.len());
        let step = steps[choices.get(depth).copied().unwrap_or(0)];
        told.push(step);
        let message = pair.side(step.from).outbox.remove(step.at).unwrap();
        if step.lose {
            lost = true;
        } else {
            pair.put(step.from, &message);
        }
    }
    (options, told)
}

/// Counts through all choices, the last step fastest.
pub fn every_schedule(mut run: impl FnMut(&[usize]) -> Vec<usize>) -> usize {
    let (mut choices, mut count) = (Vec::new(), 0);
    loop {
        let options = run(&choices);
        count += 1;
        choices.resize(options.len(), 0);
        while choices.last().is_some_and(|last| last + 1 == options[choices.len() - 1]) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => *last += 1,
            None => return count,
        }
    }
}
