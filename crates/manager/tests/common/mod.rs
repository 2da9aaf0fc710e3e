//! A manager over a real socket that asks nobody who they are. Owns how it is served; what it serves is each test's.

use axum::Router;
use daemon::{Health, Stopper};
use store::Store;

/// Serves `router` of a manager on `store`; answers with its address.
pub(crate) async fn serve(store: &Store, router: impl FnOnce(manager::App) -> Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = manager::App {
        store: store.clone(),
        health: Health::new(Stopper::new()),
        connect: None,
        access: manager::Access::open(),
    };
    let router = router(app);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
