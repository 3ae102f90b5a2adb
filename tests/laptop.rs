//! The analyst's side: the script that brings keys and skills to a laptop, in the shells and with the
//! awks that laptops have.

#[path = "laptop/case.rs"]
mod case;
#[path = "laptop/kit.rs"]
mod kit;
#[path = "laptop/merge.rs"]
mod merge;
