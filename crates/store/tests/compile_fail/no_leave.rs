//! Whoever has no leave at all.
use domain::PauseTarget;
async fn act(store: &store::Store) {
    let _ = store.pause(&PauseTarget::Everything).await;
}

fn main() {}
