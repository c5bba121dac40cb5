//! What `culvertd` does besides serving: it checks what it would use, checks and copies its store, and reads its
//! configuration again.

pub mod backup;
pub mod check;
pub mod reload;
