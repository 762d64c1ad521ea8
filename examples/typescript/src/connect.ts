// One session with Postroom over TLS, with Connect's gRPC transport: register a domain, wait until it is ready, create
// mailboxes, list them, and decode errors. `node dist/connect.js load` calls until stdin ends; `node dist/connect.js text`
// prints a request.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema, ResourceInfoSchema } from "./gen/connect/google/rpc/error_details_pb.js";
import { type Domain, Domain_Status as DomainStatus, DomainRecord_DnsType as DnsType } from "./gen/connect/postroom/v1alpha1/domain_pb.js";
import {
  type BatchCreateMailboxesRequest,
  BatchCreateMailboxesRequestSchema,
  ListMailboxesRequest_OrderBy as OrderBy,
  Mailbox_Status as MailboxStatus,
} from "./gen/connect/postroom/v1alpha1/mailbox_pb.js";
import { MailboxService } from "./gen/connect/postroom/v1alpha1/mailbox_service_pb.js";
import { callUntilEnd, PASSWORD, run, setting } from "./program.js";

// The delays between the five attempts: 12 s in total, longer than a restart of the service takes.
const BACKOFF_MS = [1_000, 2_000, 4_000, 5_000];

// Retries, as protos/service_config.json describes them: Connect has no service config. Each attempt carries the same
// idempotency key, so that one that succeeded unnoticed is not repeated. The deadline spans all attempts.
const retry: Interceptor = (next) => async (request) => {
  for (let attempt = 0; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const failure = ConnectError.from(error);
      // A service that shuts down cancels the calls that arrive meanwhile.
      const retryable = failure.code === Code.Unavailable || (failure.code === Code.Canceled && !request.signal.aborted);
      if (!retryable || request.stream || attempt === BACKOFF_MS.length) throw failure;
      // The delay that the service asks for, if any; negative if it says that a retry is useless.
      const delay = Number(failure.metadata.get("grpc-retry-pushback-ms") ?? BACKOFF_MS[attempt]);
      if (!(delay >= 0)) throw failure;
      await sleep(delay, undefined, { signal: request.signal }).catch(() => {
        throw new ConnectError("the deadline has passed", Code.DeadlineExceeded);
      });
    }
  }
};

const secretKey = setting("SCW_SECRET_KEY");
const authenticate: Interceptor = (next) => (request) => {
  request.header.set("x-auth-token", secretKey);
  return next(request);
};

// A client that trusts the CA file, and notices a dead peer.
const client = createClient(
  MailboxService,
  createGrpcTransport({
    baseUrl: `https://${setting("POSTROOM_GRPC_ADDRESS")}`,
    nodeOptions: { ca: readFileSync(setting("POSTROOM_CA_FILE")) },
    interceptors: [authenticate, retry],
    defaultTimeoutMs: 30_000,
    pingIntervalMs: 30_000,
    pingTimeoutMs: 10_000,
  }),
);

// connect-node 2.1 raises this error outside of any call, which would end the program, when a call opens a new
// connection while an idle one that the service has ended is being closed: see
// https://github.com/connectrpc/connect-es/issues/1768.
process.on("uncaughtException", (error) => {
  const isOfIdleConnection = error instanceof ConnectError && error.rawMessage.startsWith("received GOAWAY");
  if (!isOfIdleConnection) throw error;
});

async function session(): Promise<void> {
  const domain = await createDomain("connect.example");
  await waitUntilReady(domain);
  await createMailboxes(domain);
  await list(domain);
  await decodeErrors(domain);
  await repeatAfterDeadline(domain);
}

async function createDomain(name: string): Promise<Domain> {
  // The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
  // happens once.
  const headers = { "idempotency-key": `create-${name}` };
  const domain = await client.createDomain({ name, projectId: setting("SCW_DEFAULT_PROJECT_ID") }, { headers });
  console.log("domain:", domain.name, "is", DomainStatus[domain.status]);
  const records = await client.getDomainRecords({ domainId: domain.id });
  for (const record of [records.domainValidation, records.spf, records.dkim, records.dmarc, records.mx]) {
    if (record) console.log("publish:", record.dnsName, DnsType[record.dnsType], record.dnsValue.slice(0, 40));
  }
  return domain;
}

// Polls every second for a minute: publishing the records takes longer in practice.
async function waitUntilReady(domain: Domain): Promise<void> {
  for (let attempt = 0; attempt < 60 && domain.status !== DomainStatus.READY; attempt++) {
    if (domain.status === DomainStatus.WAITING_VALIDATION || domain.status === DomainStatus.VALIDATION_FAILED) {
      await client.validateDomainRecords({ domainId: domain.id });
    }
    await sleep(1_000);
    domain = await client.getDomain({ domainId: domain.id });
  }
  if (domain.status !== DomainStatus.READY) throw new Error(`${domain.name} is not ready after a minute`);
  console.log("ready:", domain.name);
}

async function createMailboxes(domain: Domain): Promise<void> {
  const headers = { "idempotency-key": `first-batch-${domain.id}` };
  for (let attempt = 0; attempt < 2; attempt++) {
    let replayed = false;
    const onTrailer = (trailer: Headers) => void (replayed = trailer.has("idempotency-replayed"));
    const request = batch(domain.id, ["ann", "bob", "cat", "dan", "eve"]);
    const { mailboxes } = await client.batchCreateMailboxes(request, { headers, onTrailer });
    console.log(`created: ${mailboxes.length} mailboxes, the first ${mailboxes[0].id}, replayed: ${replayed}`);
  }
}

async function list(domain: Domain): Promise<void> {
  let pageToken = "";
  do {
    const page = await client.listMailboxes({ domainId: domain.id, pageSize: 2, orderBy: OrderBy.EMAIL_ASC, pageToken });
    for (const mailbox of page.mailboxes) console.log("listed:", mailbox.email, MailboxStatus[mailbox.status]);
    pageToken = page.nextPageToken;
  } while (pageToken);
}

async function decodeErrors(domain: Domain): Promise<void> {
  const invalid = batch(domain.id, ["a b"]);
  invalid.mailboxes[0].password = "short";
  print("invalid", await failure(invalid));
  print("conflict", await failure(batch(domain.id, ["new", "ann"])));

  // The service cuts the details to the header list that every client accepts, unless the call accepts all.
  invalid.mailboxes = Array(100).fill(invalid.mailboxes[0]);
  const [all] = (await failure(invalid, { "x-accept-details": "all" })).findDetails(BadRequestSchema);
  console.log(`all-details: ${all.fieldViolations.length} violations`);
}

// A call that misses its deadline may have succeeded. Repeated under its key, it returns what happened.
async function repeatAfterDeadline(domain: Domain): Promise<void> {
  const request = batch(domain.id, Array.from({ length: 100 }, (_, number) => `user${number}`));
  const headers = { "idempotency-key": `second-batch-${domain.id}` };
  await client.batchCreateMailboxes(request, { headers, timeoutMs: 1 }).catch((error: unknown) => {
    console.log("deadline:", Code[ConnectError.from(error).code]);
  });
  const { mailboxes } = await client.batchCreateMailboxes(request, { headers });
  console.log("repeated:", mailboxes.length, "mailboxes");
}

async function failure(request: BatchCreateMailboxesRequest, headers = {}): Promise<ConnectError> {
  try {
    await client.batchCreateMailboxes(request, { headers });
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call succeeded");
}

function print(step: string, error: ConnectError): void {
  for (const { reason } of error.findDetails(ErrorInfoSchema)) console.log(`${step}: ${Code[error.code]} ${reason}`);
  for (const { fieldViolations } of error.findDetails(BadRequestSchema))
    for (const { field, reason, description } of fieldViolations)
      console.log(`${step}: ${field} ${reason}: ${description}`);
  for (const { owner, description } of error.findDetails(ResourceInfoSchema))
    console.log(`${step}: ${owner} ${description}`);
}

function batch(domainId: string, localParts: string[]): BatchCreateMailboxesRequest {
  const mailboxes = localParts.map((localPart) => ({ localPart, password: PASSWORD }));
  return create(BatchCreateMailboxesRequestSchema, { domainId, mailboxes });
}

async function load(): Promise<void> {
  const domain = await client.createDomain({ name: "connect-load.example" });
  const { mailboxes } = await client.batchCreateMailboxes(batch(domain.id, ["ann"]));
  const mailboxId = mailboxes[0].id;
  await callUntilEnd(
    "connect-load",
    (localPart, key) => client.createAlias({ mailboxId, localPart }, { headers: { "idempotency-key": key } }),
    async () => (await client.listAliases({ mailboxId })).totalCount,
  );
}

await run({ session, load, text: async () => console.log(batch("", ["ann"])) });
process.exit(); // the transport keeps its connection open
