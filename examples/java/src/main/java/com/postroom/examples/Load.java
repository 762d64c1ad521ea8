package com.postroom.examples;

import com.postroom.v1alpha1.CreateAliasRequest;
import com.postroom.v1alpha1.CreateDomainRequest;
import com.postroom.v1alpha1.ListAliasesRequest;
import com.postroom.v1alpha1.MailboxServiceGrpc.MailboxServiceBlockingStub;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/** Calls that are in progress while the service restarts. */
final class Load {
  private static final int WORKERS = 4;

  private Load() {}

  /**
   * Creates aliases, each under a key of its own, until stdin ends. Fails if a call failed, or had its effect twice.
   * The calls have no deadline of their own: the service config sets one of 30 s.
   */
  static void run(MailboxServiceBlockingStub service) throws Exception {
    var domain = service.createDomain(CreateDomainRequest.newBuilder().setName("java-load.example").build());
    var batch = Example.batch(domain.getId(), List.of("ann"));
    String mailbox = service.batchCreateMailboxes(batch).getMailboxes(0).getId();
    AtomicInteger calls = new AtomicInteger();
    AtomicInteger failed = new AtomicInteger();
    AtomicBoolean stopped = new AtomicBoolean();
    ExecutorService workers = Executors.newFixedThreadPool(WORKERS);
    for (int worker = 0; worker < WORKERS; worker++) {
      workers.submit(
          () -> {
            while (!stopped.get()) {
              int number = calls.incrementAndGet();
              var request = CreateAliasRequest.newBuilder().setMailboxId(mailbox).setLocalPart("alias" + number).build();
              try {
                service.withInterceptors(Example.key("java-load-" + number)).createAlias(request);
              } catch (StatusRuntimeException failure) {
                failed.incrementAndGet();
                System.out.println("failed: " + failure);
              }
              System.out.println("call " + number);
              Thread.sleep(200);
            }
            return null;
          });
    }
    System.in.readAllBytes();
    stopped.set(true);
    workers.shutdown();
    workers.awaitTermination(1, TimeUnit.MINUTES);
    int aliases =
        service.listAliases(ListAliasesRequest.newBuilder().setMailboxId(mailbox).build()).getTotalCount();
    System.out.printf("load: %d calls, %d failed, %d aliases%n", calls.get(), failed.get(), aliases);
    if (failed.get() > 0 || aliases != calls.get()) {
      throw new IllegalStateException("calls failed, or had their effect twice");
    }
  }
}
