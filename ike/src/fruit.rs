//! What has come of a connection, for one that ends without anything.

use crate::failure::Failure;

/// What has come of a connection.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) enum Fruit {
    /// No Child SA yet, and why the last one could not be made.
    None(Option<Box<Failure>>),
    /// It has had a Child SA.
    Some,
}
