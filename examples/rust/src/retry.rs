//! Retries, as protos/service_config.json describes them: tonic has no service config.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status};

/// The delays between the five attempts: 12 s in total, longer than a restart of the service takes.
const BACKOFF: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(5)];

/// Calls until an attempt ends otherwise than as UNAVAILABLE or CANCELLED, at most five times: a service that shuts down
/// cancels the calls that arrive meanwhile. `deadline` spans all attempts, and each carries the same idempotency key, so
/// that one that succeeded unnoticed is not repeated.
pub async fn retry<Message: Clone, Answer>(
    deadline: Duration,
    message: &Message,
    idempotency_key: Option<&str>,
    call: impl AsyncFn(Request<Message>) -> Result<Response<Answer>, Status>,
) -> Result<Response<Answer>, Status> {
    let end = Instant::now() + deadline;
    let mut delays = BACKOFF.into_iter();
    loop {
        let mut request = Request::new(message.clone());
        request.set_timeout(end.saturating_duration_since(Instant::now()));
        if let Some(key) = idempotency_key {
            let key = key.parse().map_err(|_| Status::invalid_argument("the idempotency key is not ASCII"))?;
            request.metadata_mut().insert("idempotency-key", key);
        }
        // tonic reports its own timeout as CANCELLED.
        let result = timeout_at(end, call(request)).await.unwrap_or_else(|_| Err(late()));
        let failure = match result {
            Err(failure) if failure.code() == Code::Cancelled && Instant::now() >= end => return Err(late()),
            Err(failure) if matches!(failure.code(), Code::Unavailable | Code::Cancelled) => failure,
            result => return result,
        };
        let Some(delay) = delays.next().and_then(|delay| pushback(&failure, delay)) else { return Err(failure) };
        if Instant::now() + delay >= end {
            return Err(failure);
        }
        sleep(delay).await;
    }
}

/// Returns the delay that the service asks for, or the default one; None if it says that a retry is useless.
fn pushback(failure: &Status, default: Duration) -> Option<Duration> {
    match failure.metadata().get("grpc-retry-pushback-ms") {
        None => Some(default),
        Some(value) => value.to_str().ok()?.parse().ok().map(Duration::from_millis),
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}
