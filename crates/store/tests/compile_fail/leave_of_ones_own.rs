//! Leave that somebody gave themselves.
use domain::{Granted, Principal, action};
fn make() -> Granted<action::Pause> {
    Granted { principal: Principal::system("me"), reason: String::new(), action: std::marker::PhantomData }
}

fn main() {
    let _ = make();
}
