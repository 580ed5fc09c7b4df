//! One file a command.

pub mod apply;
pub mod capture;
pub mod demo;
pub mod fit;
pub mod generate;
pub mod inspect;
pub mod merge;
pub mod score;
pub mod study;
