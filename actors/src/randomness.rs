//! Randomness of the system. A tunnel takes five small portions of it, and what one costs depends little on its size: each thread draws a
//! stock and gives of that.

use std::cell::RefCell;

use zeroize::{Zeroize as _, Zeroizing};

/// Octets of a stock: what several tunnels take, and one fifth of a page, so that little lies in memory before it is used.
const STOCK: usize = 800;

thread_local! {
    static OF_THREAD: RefCell<Stock> = RefCell::new(Stock::empty());
}

/// Fills `out` with randomness of the system.
pub(crate) fn random(out: &mut [u8]) {
    OF_THREAD.with_borrow_mut(|stock| stock.give(out, draw));
}

fn draw(out: &mut [u8]) {
    #[allow(
        clippy::expect_used,
        reason = "it fails only where the system has no randomness to give: nothing secret can be made then, and to go on with anything else would be \
                  worse than to end this actor"
    )]
    openssl::rand::rand_bytes(out).expect("the operating system provides randomness");
}

/// Random octets that nobody has had.
struct Stock {
    octets: Zeroizing<[u8; STOCK]>,
    /// The first so many are left; those behind are wiped.
    left: usize,
}

impl Stock {
    fn empty() -> Self {
        Self { octets: Zeroizing::new([0; STOCK]), left: 0 }
    }

    /// Fills `out` of the stock, or with what is drawn for it alone if it takes more than the stock has room for.
    fn give(&mut self, out: &mut [u8], draw: impl Fn(&mut [u8])) {
        if self.left < out.len() && out.len() <= STOCK {
            draw(&mut *self.octets);
            self.left = STOCK;
        }
        let rest = self.left.checked_sub(out.len());
        match rest.and_then(|rest| Some((rest, self.octets.get_mut(rest..self.left)?))) {
            Some((rest, given)) => {
                out.copy_from_slice(given);
                // So that nobody has it twice, and whoever reads memory later does not have it at all.
                given.zeroize();
                self.left = rest;
            }
            None => draw(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_octet_is_given_once_and_wiped() {
        let drawn = Cell::new(0u16);
        // Pairs of octets that count on.
        let draw = |out: &mut [u8]| {
            for pair in out.chunks_mut(2) {
                pair.copy_from_slice(&drawn.get().to_be_bytes()[..pair.len()]);
                drawn.set(drawn.get() + 1);
            }
        };
        let (mut stock, mut given) = (Stock::empty(), HashSet::new());
        for len in [32, 8, 16, 256, 4, STOCK, 2, STOCK + 2, 30, 0].iter().cycle().take(200) {
            let mut out = vec![0; *len];
            stock.give(&mut out, draw);
            assert!(out.chunks(2).all(|pair| given.insert(pair.to_vec())), "twice, among {len}");
            assert!(
                stock.octets[stock.left..].iter().all(|octet| *octet == 0),
                "what was given is still there"
            );
        }
    }

    #[test]
    fn two_portions_differ() {
        let mut portions = [[0; 32]; 2];
        portions.iter_mut().for_each(|portion| random(portion));
        assert!(portions[0] != portions[1] && portions.iter().all(|portion| *portion != [0; 32]));
    }
}
