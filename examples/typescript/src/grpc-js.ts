// One session with Postroom over TLS, with grpc-js: register a domain, wait until it is ready, create mailboxes, list
// them, and decode errors. `node dist/grpc-js.js load` calls until stdin ends; `node dist/grpc-js.js text` prints a request.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type ServiceError,
  status as Code,
} from "@grpc/grpc-js";

import { BadRequest, ErrorInfo, ResourceInfo } from "./gen/grpc-js/google/rpc/error_details.js";
import { Status } from "./gen/grpc-js/google/rpc/status.js";
import { CreateAliasRequest, ListAliasesRequest } from "./gen/grpc-js/postroom/v1alpha1/alias.js";
import {
  CreateDomainRequest,
  type Domain,
  Domain_Status as DomainStatus,
  DomainRecord_DnsType as DnsType,
  GetDomainRecordsRequest,
  GetDomainRequest,
  ValidateDomainRecordsRequest,
} from "./gen/grpc-js/postroom/v1alpha1/domain.js";
import {
  BatchCreateMailboxesRequest,
  ListMailboxesRequest,
  ListMailboxesRequest_OrderBy as OrderBy,
  Mailbox_Status as MailboxStatus,
} from "./gen/grpc-js/postroom/v1alpha1/mailbox.js";
import { MailboxServiceClient } from "./gen/grpc-js/postroom/v1alpha1/mailbox_service.js";
import { callUntilEnd, PASSWORD, run, setting } from "./program.js";

const SERVICE_CONFIG = "../../protos/service_config.json";
const DEADLINE_MS = 30_000;

// Returns a client that trusts the CA file, retries by the service config, and notices a dead peer.
function connect(): MailboxServiceClient {
  const secretKey = setting("SCW_SECRET_KEY");
  const authenticate: Interceptor = (options, next) =>
    new InterceptingCall(next(options), {
      start(metadata, listener, start) {
        metadata.set("x-auth-token", secretKey);
        start(metadata, listener);
      },
    });
  const tls = credentials.createSsl(readFileSync(setting("POSTROOM_CA_FILE")));
  return new MailboxServiceClient(setting("POSTROOM_GRPC_ADDRESS"), tls, {
    interceptors: [authenticate],
    "grpc.service_config": readFileSync(SERVICE_CONFIG, "utf8"),
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // Reconnect soon after a restart; by default, the delay grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
  });
}

const client = connect();

type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

interface Result<Response> {
  response: Response;
  trailer: Metadata;
}

// Returns a promise of the response and the trailing metadata. The deadline spans all attempts.
function call<Request, Response>(
  method: Method<Request, Response>,
  request: Request,
  headers: Record<string, string> = {},
  timeoutMs = DEADLINE_MS,
): Promise<Result<Response>> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve, reject) => {
    let trailer = new Metadata();
    const options = { deadline: Date.now() + timeoutMs };
    method
      .call(client, request, metadata, options, (error, response) => {
        if (error) reject(error);
        // The status follows the response.
        else setImmediate(() => resolve({ response, trailer }));
      })
      .on("status", (status) => (trailer = status.metadata));
  });
}

async function session(): Promise<void> {
  const domain = await createDomain("grpc-js.example");
  await waitUntilReady(domain);
  await createMailboxes(domain);
  await list(domain);
  await decodeErrors(domain);
  await repeatAfterDeadline(domain);
}

async function createDomain(name: string): Promise<Domain> {
  const request = CreateDomainRequest.fromPartial({ name, projectId: setting("SCW_DEFAULT_PROJECT_ID") });
  // The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
  // happens once.
  const { response: domain } = await call(client.createDomain, request, { "idempotency-key": `create-${name}` });
  console.log("domain:", domain.name, "is", DomainStatus[domain.status]);
  const query = GetDomainRecordsRequest.fromPartial({ domainId: domain.id });
  const { response: records } = await call(client.getDomainRecords, query);
  for (const record of [records.domainValidation, records.spf, records.dkim, records.dmarc, records.mx]) {
    if (record) console.log("publish:", record.dnsName, DnsType[record.dnsType], record.dnsValue.slice(0, 40));
  }
  return domain;
}

// Polls every second for a minute: publishing the records takes longer in practice.
async function waitUntilReady(domain: Domain): Promise<void> {
  for (let attempt = 0; attempt < 60 && domain.status !== DomainStatus.READY; attempt++) {
    if (domain.status === DomainStatus.WAITING_VALIDATION || domain.status === DomainStatus.VALIDATION_FAILED) {
      await call(client.validateDomainRecords, ValidateDomainRecordsRequest.fromPartial({ domainId: domain.id }));
    }
    await sleep(1_000);
    domain = (await call(client.getDomain, GetDomainRequest.fromPartial({ domainId: domain.id }))).response;
  }
  if (domain.status !== DomainStatus.READY) throw new Error(`${domain.name} is not ready after a minute`);
  console.log("ready:", domain.name);
}

async function createMailboxes(domain: Domain): Promise<void> {
  const headers = { "idempotency-key": `first-batch-${domain.id}` };
  for (let attempt = 0; attempt < 2; attempt++) {
    const request = batch(domain.id, ["ann", "bob", "cat", "dan", "eve"]);
    const { response, trailer } = await call(client.batchCreateMailboxes, request, headers);
    const replayed = trailer.get("idempotency-replayed").length > 0;
    const count = response.mailboxes.length;
    console.log(`created: ${count} mailboxes, the first ${response.mailboxes[0].id}, replayed: ${replayed}`);
  }
}

async function list(domain: Domain): Promise<void> {
  const request = ListMailboxesRequest.fromPartial({ domainId: domain.id, pageSize: 2, orderBy: OrderBy.EMAIL_ASC });
  do {
    const { response: page } = await call(client.listMailboxes, request);
    for (const mailbox of page.mailboxes) console.log("listed:", mailbox.email, MailboxStatus[mailbox.status]);
    request.pageToken = page.nextPageToken;
  } while (request.pageToken);
}

async function decodeErrors(domain: Domain): Promise<void> {
  const invalid = batch(domain.id, ["a b"]);
  invalid.mailboxes[0].password = "short";
  print("invalid", await failure(invalid));
  print("conflict", await failure(batch(domain.id, ["new", "ann"])));

  // The service cuts the details to the header list that every client accepts, unless the call accepts all.
  invalid.mailboxes = Array(100).fill(invalid.mailboxes[0]);
  for (const detail of details(await failure(invalid, { "x-accept-details": "all" }))) {
    if ("fieldViolations" in detail) console.log(`all-details: ${detail.fieldViolations.length} violations`);
  }
}

// A call that misses its deadline may have succeeded. Repeated under its key, it returns what happened.
async function repeatAfterDeadline(domain: Domain): Promise<void> {
  const request = batch(domain.id, Array.from({ length: 100 }, (_, number) => `user${number}`));
  const headers = { "idempotency-key": `second-batch-${domain.id}` };
  const late = await call(client.batchCreateMailboxes, request, headers, 1).catch((error: ServiceError) => error);
  if ("code" in late) console.log("deadline:", Code[late.code]);
  const { response } = await call(client.batchCreateMailboxes, request, headers);
  console.log("repeated:", response.mailboxes.length, "mailboxes");
}

async function failure(request: BatchCreateMailboxesRequest, headers = {}): Promise<ServiceError> {
  const result = await call(client.batchCreateMailboxes, request, headers).catch((error: ServiceError) => error);
  if ("code" in result) return result;
  throw new Error("the call succeeded");
}

const DETAILS = {
  "type.googleapis.com/google.rpc.ErrorInfo": ErrorInfo,
  "type.googleapis.com/google.rpc.BadRequest": BadRequest,
  "type.googleapis.com/google.rpc.ResourceInfo": ResourceInfo,
};

// Returns the google.rpc details of an error, those that this program knows.
function details(error: ServiceError): (ErrorInfo | BadRequest | ResourceInfo)[] {
  const packed = error.metadata.get("grpc-status-details-bin")[0] as Buffer | undefined;
  if (!packed) return [];
  return Status.decode(packed).details.flatMap(({ typeUrl, value }) => {
    const kind = DETAILS[typeUrl as keyof typeof DETAILS];
    return kind ? [kind.decode(value)] : [];
  });
}

function print(step: string, error: ServiceError): void {
  for (const detail of details(error)) {
    if ("domain" in detail) console.log(`${step}: ${Code[error.code]} ${detail.reason}`);
    else if ("owner" in detail) console.log(`${step}: ${detail.owner} ${detail.description}`);
    else
      for (const { field, reason, description } of detail.fieldViolations)
        console.log(`${step}: ${field} ${reason}: ${description}`);
  }
}

function batch(domainId: string, localParts: string[]): BatchCreateMailboxesRequest {
  const mailboxes = localParts.map((localPart) => ({ localPart, password: PASSWORD }));
  return BatchCreateMailboxesRequest.fromPartial({ domainId, mailboxes });
}

async function load(): Promise<void> {
  const { response: domain } = await call(client.createDomain, CreateDomainRequest.fromPartial({ name: "grpc-js-load.example" }));
  const { response: created } = await call(client.batchCreateMailboxes, batch(domain.id, ["ann"]));
  const mailboxId = created.mailboxes[0].id;
  await callUntilEnd(
    "grpc-js-load",
    (localPart, key) =>
      call(client.createAlias, CreateAliasRequest.fromPartial({ mailboxId, localPart }), { "idempotency-key": key }),
    async () => (await call(client.listAliases, ListAliasesRequest.fromPartial({ mailboxId }))).response.totalCount,
  );
}

await run({ session, load, text: async () => console.log(batch("", ["ann"])) });
client.close();
