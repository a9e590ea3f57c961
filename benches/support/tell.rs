//! Says on what, when and of what the figures are that follow.

#[path = "machine.rs"]
#[allow(dead_code, reason = "in JSON it is told by others")]
mod machine;

pub fn tell_machine() {
    println!("{}", machine::Machine::look().text());
}
