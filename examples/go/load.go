package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/backoff"

	pb "postroom.internal/go/postroom/v1alpha1"
)

const workers = 4

var reconnect = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}

// load creates aliases, each under a key of its own, until stdin ends. It fails if a call failed, or had its effect twice.
func load(client pb.MailboxServiceClient) {
	ctx := context.Background()
	domain, err := client.CreateDomain(withKey(ctx, "create-go-load"), &pb.CreateDomainRequest{Name: "go-load.example"})
	check(err)
	created, err := client.BatchCreateMailboxes(withKey(ctx, "go-load"), batch(domain.Id, "ann"))
	check(err)
	mailbox := created.Mailboxes[0]

	var calls, failed atomic.Int64
	var stopped atomic.Bool
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for !stopped.Load() {
				number := calls.Add(1)
				request := &pb.CreateAliasRequest{MailboxId: mailbox.Id, LocalPart: fmt.Sprint("alias", number)}
				if _, err := client.CreateAlias(withKey(ctx, fmt.Sprint("go-load-", number)), request); err != nil {
					failed.Add(1)
					fmt.Println("failed:", err)
				}
				fmt.Println("call", number)
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	stopped.Store(true)
	group.Wait()
	list, err := client.ListAliases(ctx, &pb.ListAliasesRequest{MailboxId: mailbox.Id})
	check(err)
	fmt.Printf("load: %d calls, %d failed, %d aliases\n", calls.Load(), failed.Load(), list.TotalCount)
	if failed.Load() > 0 || int64(list.TotalCount) != calls.Load() {
		os.Exit(1)
	}
}
