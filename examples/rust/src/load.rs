//! Calls that are in progress while the service restarts.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, stdin};
use tokio::join;
use tokio::time::sleep;

use crate::pb::{CreateAliasRequest, CreateDomainRequest, ListAliasesRequest};
use crate::retry::retry;
use crate::{Client, DEADLINE, Error, batch};

#[derive(Default)]
struct Progress {
    calls: AtomicI32,
    failed: AtomicI32,
    stopped: AtomicBool,
}

/// Creates aliases, each under a key of its own, until stdin ends. Fails if a call failed, or had its effect twice.
pub async fn load(client: Client) -> Result<(), Error> {
    let request = CreateDomainRequest { name: "rust-load.example".into(), ..Default::default() };
    let domain = client.clone().create_domain(request).await?.into_inner();
    let created = client.clone().batch_create_mailboxes(batch(&domain.id, ["ann"])).await?.into_inner();
    let mailbox_id = created.mailboxes[0].id.clone();

    let progress = Progress::default();
    let work = async || work(&client, &mailbox_id, &progress).await;
    join!(stop(&progress), work(), work(), work(), work()).0?;

    let request = ListAliasesRequest { mailbox_id, ..Default::default() };
    let aliases = client.clone().list_aliases(request).await?.into_inner().total_count;
    let (calls, failed) = (progress.calls.load(SeqCst), progress.failed.load(SeqCst));
    println!("load: {calls} calls, {failed} failed, {aliases} aliases");
    if failed > 0 || aliases != calls { Err("calls failed, or had their effect twice".into()) } else { Ok(()) }
}

async fn stop(progress: &Progress) -> Result<usize, Error> {
    let read = stdin().read_to_end(&mut Vec::new()).await;
    progress.stopped.store(true, SeqCst);
    Ok(read?)
}

async fn work(client: &Client, mailbox_id: &str, progress: &Progress) {
    while !progress.stopped.load(SeqCst) {
        let number = progress.calls.fetch_add(1, SeqCst) + 1;
        let request = CreateAliasRequest {
            mailbox_id: mailbox_id.into(),
            local_part: format!("alias{number}"),
            ..Default::default()
        };
        let key = format!("rust-load-{number}");
        let call = async |request| client.clone().create_alias(request).await;
        if let Err(failure) = retry(DEADLINE, &request, Some(&key), call).await {
            progress.failed.fetch_add(1, SeqCst);
            println!("failed: {failure}");
        }
        println!("call {number}");
        sleep(Duration::from_millis(200)).await;
    }
}
