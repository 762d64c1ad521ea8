//! One session with Postroom over TLS: register a domain, wait until it is ready, create mailboxes, list them, and decode
//! errors. `cargo run load` calls until stdin ends; `cargo run text` prints a request.

mod load;
mod retry;

use std::env::{args, var};
use std::time::Duration;

use tokio::time::sleep;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::{ErrorDetail, StatusExt};

use pb::batch_create_mailboxes_request::MailboxParameters;
use pb::domain::Status as DomainStatus;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::{
    BatchCreateMailboxesRequest, CreateDomainRequest, Domain, GetDomainRecordsRequest, GetDomainRequest,
    ListMailboxesRequest, ValidateDomainRecordsRequest, list_mailboxes_request::OrderBy,
};
use retry::retry;

pub mod pb {
    tonic::include_proto!("postroom.v1alpha1");
}

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Client = MailboxServiceClient<InterceptedService<Channel, Authentication>>;

const PASSWORD: &str = "a long enough password";
pub const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mode = args().nth(1).unwrap_or_else(|| "session".into());
    match mode.as_str() {
        "session" => session(connect()?).await,
        "load" => load::load(connect()?).await,
        "text" => {
            println!("{:?}", batch("", ["ann"]));
            Ok(())
        }
        _ => Err(format!("{mode:?} is no mode: give session, load or text").into()),
    }
}

/// Returns a client that trusts the CA file and notices a dead peer. It connects with the first call, and again after
/// the connection was lost; `retry` repeats the calls that failed meanwhile.
fn connect() -> Result<Client, Error> {
    let ca = Certificate::from_pem(std::fs::read(var("POSTROOM_CA_FILE")?)?);
    let channel = Endpoint::from_shared(format!("https://{}", var("POSTROOM_GRPC_ADDRESS")?))?
        .tls_config(ClientTlsConfig::new().ca_certificate(ca))?
        .connect_timeout(Duration::from_secs(5))
        .http2_max_header_list_size(64 * 1024) // room for all details of an error; the default is 16 KiB
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy();
    let secret_key = var("SCW_SECRET_KEY")?.parse()?;
    Ok(MailboxServiceClient::with_interceptor(channel, Authentication(secret_key)))
}

/// Authenticates every call.
#[derive(Clone)]
pub struct Authentication(AsciiMetadataValue);

impl tonic::service::Interceptor for Authentication {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("x-auth-token", self.0.clone());
        Ok(request)
    }
}

async fn session(client: Client) -> Result<(), Error> {
    let domain = create_domain(&client, "rust.example").await?;
    wait_until_ready(&client, &domain.id).await?;
    create_mailboxes(&client, &domain.id).await?;
    list(&client, &domain.id).await?;
    decode_errors(&client, &domain.id).await?;
    repeat_after_deadline(&client, &domain.id).await
}

async fn create_domain(client: &Client, name: &str) -> Result<Domain, Error> {
    let project_id = var("SCW_DEFAULT_PROJECT_ID").unwrap_or_default();
    let request = CreateDomainRequest { name: name.into(), project_id, ..Default::default() };
    // The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
    // happens once.
    let key = format!("create-{name}");
    let domain = retry(DEADLINE, &request, Some(&key), async |request| client.clone().create_domain(request).await)
        .await?
        .into_inner();
    println!("domain: {} is {}", domain.name, domain.status().as_str_name());
    let request = GetDomainRecordsRequest { domain_id: domain.id.clone() };
    let records =
        retry(DEADLINE, &request, None, async |request| client.clone().get_domain_records(request).await).await?;
    let records = records.into_inner();
    for record in [records.domain_validation, records.spf, records.dkim, records.dmarc, records.mx].iter().flatten() {
        println!("publish: {} {} {:.40}", record.dns_name, record.dns_type().as_str_name(), record.dns_value);
    }
    Ok(domain)
}

/// Polls every second for a minute: publishing the records takes longer in practice.
async fn wait_until_ready(client: &Client, domain_id: &str) -> Result<(), Error> {
    for _ in 0..60 {
        let request = GetDomainRequest { domain_id: domain_id.into() };
        let domain = retry(DEADLINE, &request, None, async |request| client.clone().get_domain(request).await)
            .await?
            .into_inner();
        match domain.status() {
            DomainStatus::Ready => {
                println!("ready: {}", domain.name);
                return Ok(());
            }
            DomainStatus::WaitingValidation | DomainStatus::ValidationFailed => {
                let request = ValidateDomainRecordsRequest { domain_id: domain_id.into() };
                retry(DEADLINE, &request, None, async |request| client.clone().validate_domain_records(request).await)
                    .await?;
            }
            _ => {}
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err("the domain is not ready after a minute".into())
}

async fn create_mailboxes(client: &Client, domain_id: &str) -> Result<(), Error> {
    let request = batch(domain_id, ["ann", "bob", "cat", "dan", "eve"]);
    let key = format!("first-batch-{domain_id}");
    for _ in 0..2 {
        let response =
            retry(DEADLINE, &request, Some(&key), async |request| client.clone().batch_create_mailboxes(request).await)
                .await?;
        let replayed = response.metadata().contains_key("idempotency-replayed");
        let mailboxes = response.into_inner().mailboxes;
        println!("created: {} mailboxes, the first {}, replayed: {replayed}", mailboxes.len(), mailboxes[0].id);
    }
    Ok(())
}

async fn list(client: &Client, domain_id: &str) -> Result<(), Error> {
    let mut request = ListMailboxesRequest {
        domain_id: domain_id.into(),
        page_size: 2,
        order_by: OrderBy::EmailAsc.into(),
        ..Default::default()
    };
    loop {
        let page = retry(DEADLINE, &request, None, async |request| client.clone().list_mailboxes(request).await)
            .await?
            .into_inner();
        for mailbox in &page.mailboxes {
            println!("listed: {} {}", mailbox.email, mailbox.status().as_str_name());
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn decode_errors(client: &Client, domain_id: &str) -> Result<(), Error> {
    let mut invalid = batch(domain_id, ["a b"]);
    invalid.mailboxes[0].password = "short".into();
    print("invalid", &failure(client, Request::new(invalid.clone())).await?);
    print("conflict", &failure(client, Request::new(batch(domain_id, ["new", "ann"]))).await?);

    // The service cuts the details to the header list that every client accepts, unless the call accepts all.
    invalid.mailboxes = vec![invalid.mailboxes[0].clone(); 100];
    let mut request = Request::new(invalid);
    request.metadata_mut().insert("x-accept-details", "all".parse()?);
    let details = failure(client, request).await?.get_error_details();
    let violations = details.bad_request().map_or(0, |request| request.field_violations.len());
    println!("all-details: {violations} violations");
    Ok(())
}

/// A call that misses its deadline may have succeeded. Repeated under its key, it returns what happened.
async fn repeat_after_deadline(client: &Client, domain_id: &str) -> Result<(), Error> {
    let request = batch(domain_id, (0..100).map(|number| format!("user{number}")));
    let key = format!("second-batch-{domain_id}");
    let call = async |request| client.clone().batch_create_mailboxes(request).await;
    if let Err(late) = retry(Duration::from_millis(1), &request, Some(&key), call).await {
        println!("deadline: {:?}", late.code());
    }
    let response = retry(DEADLINE, &request, Some(&key), call).await?.into_inner();
    println!("repeated: {} mailboxes", response.mailboxes.len());
    Ok(())
}

async fn failure(client: &Client, request: Request<BatchCreateMailboxesRequest>) -> Result<Status, Error> {
    client.clone().batch_create_mailboxes(request).await.err().ok_or_else(|| "the call succeeded".into())
}

fn print(step: &str, failure: &Status) {
    for detail in failure.get_error_details_vec() {
        match detail {
            ErrorDetail::ErrorInfo(info) => println!("{step}: {:?} {}", failure.code(), info.reason),
            ErrorDetail::BadRequest(request) => {
                // tonic-types leaves out the `reason` of a violation.
                for each in request.field_violations {
                    println!("{step}: {} {}", each.field, each.description);
                }
            }
            ErrorDetail::ResourceInfo(resource) => println!("{step}: {} {}", resource.owner, resource.description),
            _ => {}
        }
    }
}

pub fn batch<T: Into<String>>(
    domain_id: &str,
    local_parts: impl IntoIterator<Item = T>,
) -> BatchCreateMailboxesRequest {
    let mailboxes = local_parts
        .into_iter()
        .map(|local_part| MailboxParameters {
            local_part: local_part.into(),
            password: PASSWORD.into(),
            ..Default::default()
        })
        .collect();
    BatchCreateMailboxesRequest { domain_id: domain_id.into(), mailboxes, ..Default::default() }
}
