//! What `culvertd` does besides serving: it checks what it would use, checks and copies its store, opens or
//! moves its catalog, reads its configuration again, has what it shall have from the first start on, and knows after a restart whom to call back.

pub mod backup;
pub mod bootstrap;
pub mod catalog;
pub mod check;
pub mod nodes;
pub mod recall;
pub mod reload;
