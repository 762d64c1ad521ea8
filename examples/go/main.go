// One session with Postroom over TLS: register a domain, wait until it is ready, create mailboxes, list them, and
// decode errors. `go run . load` calls until stdin ends; `go run . text` prints a request.
//
//go:generate buf generate
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "postroom.internal/go/postroom/v1alpha1"
)

const (
	password          = "a long enough password"
	serviceConfigFile = "../../protos/service_config.json"
)

func main() {
	connection, err := connect()
	check(err)
	defer connection.Close()
	client := pb.NewMailboxServiceClient(connection)
	mode := "session"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	switch mode {
	case "session":
		session(client)
	case "load":
		load(client)
	case "text":
		fmt.Println(batch("", "ann"))
	default:
		log.Fatalf("%q is no mode: give session, load or text", mode)
	}
}

// connect returns a connection that trusts the CA file, retries by the service config, and notices a dead peer.
func connect() (*grpc.ClientConn, error) {
	tls, err := credentials.NewClientTLSFromFile(os.Getenv("POSTROOM_CA_FILE"), "")
	if err != nil {
		return nil, err
	}
	serviceConfig, err := os.ReadFile(serviceConfigFile)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(os.Getenv("POSTROOM_GRPC_ADDRESS"),
		grpc.WithTransportCredentials(tls),
		grpc.WithPerRPCCredentials(secretKey(os.Getenv("SCW_SECRET_KEY"))),
		grpc.WithDefaultServiceConfig(string(serviceConfig)),
		// Reconnect soon after a restart; by default, the delay grows to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
}

// secretKey authenticates every call, over TLS only.
type secretKey string

func (key secretKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"x-auth-token": string(key)}, nil
}

func (secretKey) RequireTransportSecurity() bool { return true }

func session(client pb.MailboxServiceClient) {
	domain := createDomain(client, "go.example")
	waitUntilReady(client, domain)
	createMailboxes(client, domain)
	list(client, domain)
	decodeErrors(client, domain)
	repeatAfterDeadline(client, domain)
}

func createDomain(client pb.MailboxServiceClient, name string) *pb.Domain {
	// The deadline spans all attempts of a call.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
	// happens once.
	request := &pb.CreateDomainRequest{Name: name, ProjectId: os.Getenv("SCW_DEFAULT_PROJECT_ID")}
	domain, err := client.CreateDomain(withKey(ctx, "create-"+name), request)
	check(err)
	fmt.Println("domain:", domain.Name, "is", domain.Status)
	records, err := client.GetDomainRecords(ctx, &pb.GetDomainRecordsRequest{DomainId: domain.Id})
	check(err)
	for _, record := range []*pb.DomainRecord{records.DomainValidation, records.Spf, records.Dkim, records.Dmarc, records.Mx} {
		fmt.Printf("publish: %s %s %.40s\n", record.DnsName, record.DnsType, record.DnsValue)
	}
	return domain
}

// waitUntilReady polls every second for a minute: publishing the records takes longer in practice.
func waitUntilReady(client pb.MailboxServiceClient, domain *pb.Domain) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for domain.Status != pb.Domain_READY {
		if domain.Status == pb.Domain_WAITING_VALIDATION || domain.Status == pb.Domain_VALIDATION_FAILED {
			_, err := client.ValidateDomainRecords(ctx, &pb.ValidateDomainRecordsRequest{DomainId: domain.Id})
			check(err)
		}
		time.Sleep(time.Second)
		var err error
		domain, err = client.GetDomain(ctx, &pb.GetDomainRequest{DomainId: domain.Id})
		check(err)
	}
	fmt.Println("ready:", domain.Name)
}

func createMailboxes(client pb.MailboxServiceClient, domain *pb.Domain) {
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var trailer metadata.MD
		request := batch(domain.Id, "ann", "bob", "cat", "dan", "eve")
		response, err := client.BatchCreateMailboxes(withKey(ctx, "first-batch-"+domain.Id), request, grpc.Trailer(&trailer))
		check(err)
		replayed := len(trailer.Get("idempotency-replayed")) > 0
		fmt.Printf("created: %d mailboxes, the first %s, replayed: %t\n", len(response.Mailboxes), response.Mailboxes[0].Id, replayed)
	}
}

func list(client pb.MailboxServiceClient, domain *pb.Domain) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request := &pb.ListMailboxesRequest{DomainId: domain.Id, PageSize: 2, OrderBy: pb.ListMailboxesRequest_EMAIL_ASC}
	for {
		page, err := client.ListMailboxes(ctx, request)
		check(err)
		for _, mailbox := range page.Mailboxes {
			fmt.Println("listed:", mailbox.Email, mailbox.Status)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return
		}
	}
}

func decodeErrors(client pb.MailboxServiceClient, domain *pb.Domain) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	invalid := batch(domain.Id, "a b")
	invalid.Mailboxes[0].Password = "short"
	_, err := client.BatchCreateMailboxes(ctx, invalid)
	printError("invalid", err)
	_, err = client.BatchCreateMailboxes(ctx, batch(domain.Id, "new", "ann"))
	printError("conflict", err)

	// The service cuts the details to the header list that every client accepts, unless the call accepts all. Go
	// accepts 16 MiB by default.
	for len(invalid.Mailboxes) < 100 {
		invalid.Mailboxes = append(invalid.Mailboxes, invalid.Mailboxes[0])
	}
	_, err = client.BatchCreateMailboxes(metadata.AppendToOutgoingContext(ctx, "x-accept-details", "all"), invalid)
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			fmt.Println("all-details:", len(request.FieldViolations), "violations")
		}
	}
}

// repeatAfterDeadline makes a call that misses its deadline: it may have succeeded. Repeated under its key, it returns
// what happened.
func repeatAfterDeadline(client pb.MailboxServiceClient, domain *pb.Domain) {
	var names []string
	for number := range 100 {
		names = append(names, fmt.Sprint("user", number))
	}
	request, ctx := batch(domain.Id, names...), withKey(context.Background(), "second-batch-"+domain.Id)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err := client.BatchCreateMailboxes(short, request)
	fmt.Println("deadline:", status.Code(err))
	ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	response, err := client.BatchCreateMailboxes(ctx, request)
	check(err)
	fmt.Println("repeated:", len(response.Mailboxes), "mailboxes")
}

func printError(step string, err error) {
	failure := status.Convert(err)
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("%s: %s %s\n", step, failure.Code(), detail.Reason)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Printf("%s: %s %s: %s\n", step, violation.Field, violation.Reason, violation.Description)
			}
		case *errdetails.ResourceInfo:
			fmt.Printf("%s: %s %s\n", step, detail.Owner, detail.Description)
		}
	}
}

func batch(domainID string, localParts ...string) *pb.BatchCreateMailboxesRequest {
	request := &pb.BatchCreateMailboxesRequest{DomainId: domainID}
	for _, localPart := range localParts {
		item := &pb.BatchCreateMailboxesRequest_MailboxParameters{LocalPart: localPart, Password: password}
		request.Mailboxes = append(request.Mailboxes, item)
	}
	return request
}

func withKey(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
