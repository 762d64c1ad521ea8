package com.postroom.examples;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.ResourceInfo;
import com.postroom.v1alpha1.BatchCreateMailboxesRequest;
import com.postroom.v1alpha1.CreateDomainRequest;
import com.postroom.v1alpha1.Domain;
import com.postroom.v1alpha1.DomainRecord;
import com.postroom.v1alpha1.GetDomainRecordsRequest;
import com.postroom.v1alpha1.GetDomainRequest;
import com.postroom.v1alpha1.ListMailboxesRequest;
import com.postroom.v1alpha1.MailboxServiceGrpc;
import com.postroom.v1alpha1.MailboxServiceGrpc.MailboxServiceBlockingStub;
import com.postroom.v1alpha1.ValidateDomainRecordsRequest;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;

/**
 * One session with Postroom over TLS: register a domain, wait until it is ready, create mailboxes, list them, and decode
 * errors. With the argument {@code load}, it calls until stdin ends; with {@code text}, it prints a request.
 */
public final class Example {
  private static final String PASSWORD = "a long enough password";
  private static final Path SERVICE_CONFIG = Path.of("../../protos/service_config.json");
  private static final Duration DEADLINE = Duration.ofSeconds(30);

  private final MailboxServiceBlockingStub service;

  private Example(MailboxServiceBlockingStub service) {
    this.service = service;
  }

  public static void main(String[] arguments) throws Exception {
    String mode = arguments.length > 0 ? arguments[0] : "session";
    ManagedChannel channel = connect();
    try {
      MailboxServiceBlockingStub service = MailboxServiceGrpc.newBlockingStub(channel);
      switch (mode) {
        case "session" -> new Example(service).session();
        case "load" -> Load.run(service);
        case "text" -> System.out.println(batch("", List.of("ann")));
        default -> throw new IllegalArgumentException("\"" + mode + "\" is no mode: give session, load or text");
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** Returns a channel that trusts the CA file, retries by the service config, and notices a dead peer. */
  private static ManagedChannel connect() throws IOException {
    Metadata authentication = metadata("x-auth-token", System.getenv("SCW_SECRET_KEY"));
    return NettyChannelBuilder.forTarget(
            System.getenv("POSTROOM_GRPC_ADDRESS"),
            TlsChannelCredentials.newBuilder().trustManager(new File(System.getenv("POSTROOM_CA_FILE"))).build())
        .intercept(MetadataUtils.newAttachHeadersInterceptor(authentication))
        .defaultServiceConfig(serviceConfig())
        .maxInboundMetadataSize(64 * 1024) // room for all details of an error; the default is 8 KiB
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
  }

  @SuppressWarnings("unchecked")
  private static Map<String, ?> serviceConfig() throws IOException {
    return new Gson().fromJson(Files.readString(SERVICE_CONFIG), Map.class);
  }

  private void session() throws InterruptedException, InvalidProtocolBufferException {
    Domain domain = createDomain("java.example");
    waitUntilReady(domain);
    createMailboxes(domain);
    list(domain);
    decodeErrors(domain);
    repeatAfterDeadline(domain);
  }

  private Domain createDomain(String name) {
    CreateDomainRequest request =
        CreateDomainRequest.newBuilder().setName(name).setProjectId(System.getenv("SCW_DEFAULT_PROJECT_ID")).build();
    // The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
    // happens once.
    Domain domain = within(DEADLINE).withInterceptors(key("create-" + name)).createDomain(request);
    System.out.println("domain: " + domain.getName() + " is " + domain.getStatus());
    var records = service.getDomainRecords(GetDomainRecordsRequest.newBuilder().setDomainId(domain.getId()).build());
    for (DomainRecord record :
        List.of(
            records.getDomainValidation(), records.getSpf(), records.getDkim(), records.getDmarc(), records.getMx())) {
      System.out.printf("publish: %s %s %.40s%n", record.getDnsName(), record.getDnsType(), record.getDnsValue());
    }
    return domain;
  }

  /** Polls every second for a minute: publishing the records takes longer in practice. */
  private void waitUntilReady(Domain domain) throws InterruptedException {
    String id = domain.getId();
    for (int attempt = 0; attempt < 60 && domain.getStatus() != Domain.Status.READY; attempt++) {
      if (domain.getStatus() == Domain.Status.WAITING_VALIDATION
          || domain.getStatus() == Domain.Status.VALIDATION_FAILED) {
        service.validateDomainRecords(ValidateDomainRecordsRequest.newBuilder().setDomainId(id).build());
      }
      Thread.sleep(1_000);
      domain = within(DEADLINE).getDomain(GetDomainRequest.newBuilder().setDomainId(id).build());
    }
    if (domain.getStatus() != Domain.Status.READY) {
      throw new IllegalStateException(domain.getName() + " is " + domain.getStatus() + " after a minute");
    }
    System.out.println("ready: " + domain.getName());
  }

  private void createMailboxes(Domain domain) {
    BatchCreateMailboxesRequest request = batch(domain.getId(), List.of("ann", "bob", "cat", "dan", "eve"));
    for (int attempt = 0; attempt < 2; attempt++) {
      AtomicReference<Metadata> trailers = new AtomicReference<>();
      var response =
          within(DEADLINE)
              .withInterceptors(
                  key("first-batch-" + domain.getId()),
                  MetadataUtils.newCaptureMetadataInterceptor(new AtomicReference<>(), trailers))
              .batchCreateMailboxes(request);
      System.out.printf(
          "created: %d mailboxes, the first %s, replayed: %s%n",
          response.getMailboxesCount(),
          response.getMailboxes(0).getId(),
          trailers.get().containsKey(metadataKey("idempotency-replayed")));
    }
  }

  private void list(Domain domain) {
    var request =
        ListMailboxesRequest.newBuilder()
            .setDomainId(domain.getId())
            .setPageSize(2)
            .setOrderBy(ListMailboxesRequest.OrderBy.EMAIL_ASC);
    do {
      var page = within(DEADLINE).listMailboxes(request.build());
      page.getMailboxesList().forEach(each -> System.out.println("listed: " + each.getEmail() + " " + each.getStatus()));
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
  }

  private void decodeErrors(Domain domain) throws InvalidProtocolBufferException {
    var invalid = batch(domain.getId(), List.of("a b")).toBuilder();
    invalid.getMailboxesBuilder(0).setPassword("short");
    print("invalid", failure(service, invalid.build()));
    print("conflict", failure(service, batch(domain.getId(), List.of("new", "ann"))));

    // The service cuts the details to the header list that every client accepts, unless the call accepts all.
    while (invalid.getMailboxesCount() < 100) {
      invalid.addMailboxes(invalid.getMailboxes(0));
    }
    var accepting =
        service.withInterceptors(
            MetadataUtils.newAttachHeadersInterceptor(metadata("x-accept-details", "all")));
    for (Any detail : StatusProto.fromThrowable(failure(accepting, invalid.build())).getDetailsList()) {
      if (detail.is(BadRequest.class)) {
        int count = detail.unpack(BadRequest.class).getFieldViolationsCount();
        System.out.println("all-details: " + count + " violations");
      }
    }
  }

  /** A call that misses its deadline may have succeeded. Repeated under its key, it returns what happened. */
  private void repeatAfterDeadline(Domain domain) {
    List<String> names = IntStream.range(0, 100).mapToObj(number -> "user" + number).toList();
    ClientInterceptor key = key("second-batch-" + domain.getId());
    BatchCreateMailboxesRequest request = batch(domain.getId(), names);
    try {
      within(Duration.ofMillis(1)).withInterceptors(key).batchCreateMailboxes(request);
    } catch (StatusRuntimeException late) {
      System.out.println("deadline: " + late.getStatus().getCode());
    }
    int created = within(DEADLINE).withInterceptors(key).batchCreateMailboxes(request).getMailboxesCount();
    System.out.println("repeated: " + created + " mailboxes");
  }

  private static StatusRuntimeException failure(
      MailboxServiceBlockingStub service, BatchCreateMailboxesRequest request) {
    try {
      service.withDeadlineAfter(DEADLINE.toMillis(), TimeUnit.MILLISECONDS).batchCreateMailboxes(request);
    } catch (StatusRuntimeException failure) {
      return failure;
    }
    throw new IllegalStateException("the call succeeded");
  }

  private static void print(String step, StatusRuntimeException failure) throws InvalidProtocolBufferException {
    for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        String reason = detail.unpack(ErrorInfo.class).getReason();
        System.out.println(step + ": " + failure.getStatus().getCode() + " " + reason);
      } else if (detail.is(BadRequest.class)) {
        for (var each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          System.out.printf("%s: %s %s: %s%n", step, each.getField(), each.getReason(), each.getDescription());
        }
      } else if (detail.is(ResourceInfo.class)) {
        ResourceInfo resource = detail.unpack(ResourceInfo.class);
        System.out.println(step + ": " + resource.getOwner() + " " + resource.getDescription());
      }
    }
  }

  /** Returns a stub whose next call has a deadline, which spans all attempts. */
  private MailboxServiceBlockingStub within(Duration deadline) {
    return service.withDeadlineAfter(deadline.toMillis(), TimeUnit.MILLISECONDS);
  }

  static BatchCreateMailboxesRequest batch(String domainId, List<String> localParts) {
    var request = BatchCreateMailboxesRequest.newBuilder().setDomainId(domainId);
    localParts.forEach(each -> request.addMailboxesBuilder().setLocalPart(each).setPassword(PASSWORD));
    return request.build();
  }

  static ClientInterceptor key(String idempotencyKey) {
    return MetadataUtils.newAttachHeadersInterceptor(metadata("idempotency-key", idempotencyKey));
  }

  private static Metadata metadata(String name, String value) {
    Metadata metadata = new Metadata();
    metadata.put(metadataKey(name), value);
    return metadata;
  }

  private static Metadata.Key<String> metadataKey(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
