//! A delete that is owed and does not come. Apart from the kit, for it needs the feature `test-hooks`, and `bench`, which uses the kit, is
//! built without it.

use super::kit::{Pair, Who};

/// `who` makes a pair in place of `old` and then does not delete `old`: what it owes is not owed for ever. So it is when the exchanges did
/// not cross, when they did and ours won or lost, and when ours was refused.
pub(super) fn owes_the_delete(pair: &mut Pair, who: Who, old: u32) {
    let side = pair.side(who);
    side.conn.as_mut().unwrap().forget_child(old);
    side.drain();
}
