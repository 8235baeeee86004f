//! Acts that change something run to their end even if whoever asked for them hangs up.
//!
//! A server drops a request's future when its connection closes. Dropped between a commit and what must follow it, a
//! change would leave memory (the key table, the cached answers) behind the database.
//!
//! Never: an act that writes outside of [`run_to_end`] and has something to do after its commit.

/// The act's task panicked or the process is ending; whether it committed is not known.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the act ended unexpectedly")]
pub struct ActDied;

/// Runs an act on a task of its own and waits for it.
pub async fn run_to_end<T, E, F>(act: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<ActDied> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    tokio::spawn(act).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an act ended unexpectedly");
        Err(ActDied.into())
    })
}
