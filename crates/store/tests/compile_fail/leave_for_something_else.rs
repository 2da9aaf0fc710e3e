//! Leave to do something else.
use domain::{Granted, PauseTarget, action};
async fn act(store: &store::Store, granted: &Granted<action::Resume>) {
    let _ = store.pause(granted, &PauseTarget::Everything).await;
}

fn main() {}
