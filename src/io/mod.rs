//! Everything outside the program: its bytes and its protocols. No timely type is named here.

pub mod json;
