// Every error type that the contract lists but `internal`, which no caller can provoke, each with its typed fields.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"

	mailbox "github.com/scaleway/scaleway-sdk-go/api/mailbox/v1alpha1"
	"github.com/scaleway/scaleway-sdk-go/scw"
)

const (
	accessKey = "SCWXXXXXXXXXXXXXXXXX"
	path      = "/mailbox/v1alpha1"
)

func provoke() {
	provokeInvalidArguments()
	provokeDenials()
	provokeQuotaAndConflict()
	provokeStates()
	provokeHTTP()
	provokeOverload()
}

func provokeInvalidArguments() {
	_, err := api.CreateDomain(&mailbox.CreateDomainRequest{Name: "com"})
	invalid := expect[*scw.InvalidArgumentsError]("invalid_arguments", err)
	check("invalid_arguments names the argument", invalid.Details[0].ArgumentName == "name" && invalid.Details[0].HelpMessage != "", invalid)

	_, err = api.BatchCreateMailboxes(&mailbox.BatchCreateMailboxesRequest{
		DomainID: unknown,
		Mailboxes: []*mailbox.BatchCreateMailboxesRequestMailboxParameters{
			{LocalPart: "a b", Password: password},
			{LocalPart: "ann", Password: "short"},
			{LocalPart: "", Password: password},
		},
	})
	invalid = expect[*scw.InvalidArgumentsError]("invalid_arguments of a batch", err)
	reasons := map[string]string{}
	for _, detail := range invalid.Details {
		check("each has a help message", detail.HelpMessage != "", detail)
		reasons[detail.ArgumentName] = detail.Reason
	}
	for argument, reason := range map[string]string{
		"mailboxes[0].local_part": "format",
		"mailboxes[1].password":   "constraint",
		"mailboxes[2].local_part": "required",
	} {
		check("every violation at once: "+argument, reasons[argument] == reason, invalid.Details)
	}
	_, err = api.ListMailboxes(&mailbox.ListMailboxesRequest{PageSize: scw.Uint32Ptr(1001)})
	invalid = expect[*scw.InvalidArgumentsError]("invalid_arguments of a query", err)
	check("a query parameter is named", invalid.Details[0].ArgumentName == "page_size" && invalid.Details[0].Reason == "constraint", invalid)
	_, err = raw(client(), http.MethodPost, "/domains", nil, map[string]any{"nam": "x.example"})
	invalid = expect[*scw.InvalidArgumentsError]("invalid_arguments of an unknown argument", err)
	check("an unknown argument is named", invalid.Details[0].ArgumentName == "nam" && invalid.Details[0].Reason == "unknown", invalid)
}

func provokeDenials() {
	for reason, secret := range map[string]string{"not_found": unknown, "expired": os.Getenv("EXPIRED_SECRET_KEY")} {
		stranger := mailbox.NewAPI(client(scw.WithAuth(accessKey, secret)))
		_, err := stranger.ListDomains(&mailbox.ListDomainsRequest{})
		denied := expect[*scw.DeniedAuthenticationError]("denied_authentication: "+reason, err)
		check("denied_authentication says why", denied.Method == "api_key" && denied.Reason == reason, denied)
	}
	_, err := raw(client(scw.WithoutAuth()), http.MethodGet, "/domains", nil, nil)
	denied := expect[*scw.DeniedAuthenticationError]("denied_authentication: invalid_argument", err)
	check("denied_authentication without a key", denied.Method == "api_key" && denied.Reason == "invalid_argument", denied)

	reader := mailbox.NewAPI(client(scw.WithAuth(accessKey, os.Getenv("READ_ONLY_SECRET_KEY"))))
	_, err = reader.CreateDomain(&mailbox.CreateDomainRequest{Name: "denied.example"})
	forbidden := expect[*scw.PermissionsDeniedError]("permissions_denied", err)
	check("permissions_denied names the action", len(forbidden.Details) == 1 && forbidden.Details[0].Resource == "domain" && forbidden.Details[0].Action == "write", forbidden)

	_, err = api.GetMailbox(&mailbox.GetMailboxRequest{MailboxID: unknown})
	missing := expect[*scw.ResourceNotFoundError]("not_found", err)
	check("not_found names the resource", missing.Resource == "mailbox" && missing.ResourceID == unknown, missing)
}

func provokeQuotaAndConflict() {
	full, err := api.CreateDomain(&mailbox.CreateDomainRequest{Name: "full.example", ProjectID: os.Getenv("FULL_PROJECT_ID")})
	must("CreateDomain", err)
	batch := func(names ...string) error {
		request := &mailbox.BatchCreateMailboxesRequest{DomainID: full.ID}
		for _, name := range names {
			request.Mailboxes = append(request.Mailboxes, &mailbox.BatchCreateMailboxesRequestMailboxParameters{LocalPart: name, Password: password})
		}
		_, err := api.BatchCreateMailboxes(request)
		return err
	}
	must("BatchCreateMailboxes", batch("one"))
	quota := expect[*scw.QuotasExceededError]("quotas_exceeded", batch("two"))
	detail := quota.Details[0]
	check("quotas_exceeded has the numbers", detail.Resource == "mailboxes" && detail.Quota == 1 && detail.Current == 1, quota)

	_, err = api.CreateDomain(&mailbox.CreateDomainRequest{Name: "full.example"})
	conflict := response("conflict", err, http.StatusConflict)
	check("conflict names the resource and the way out", conflict.Resource == "domain" && strings.Contains(conflict.Message, full.ID), conflict)

	conflict = response("conflict", batch("one"), http.StatusConflict)
	var body struct {
		ResourceID string `json:"resource_id"`
		Details    []struct {
			ArgumentName string `json:"argument_name"`
			Resource     string `json:"resource"`
			ResourceID   string `json:"resource_id"`
			Email        string `json:"email"`
			CurrentState string `json:"current_state"`
		} `json:"details"`
	}
	must("the body of a conflict", json.Unmarshal(conflict.RawBody, &body))
	taken := body.Details[0]
	check("a conflict's address", taken.ArgumentName == "mailboxes[0].local_part" && taken.Email == "one@full.example", body)
	check("a conflict's resource", taken.Resource == "mailbox" && taken.ResourceID == body.ResourceID && taken.CurrentState == "waiting_domain", body)
}

func provokeStates() {
	canceled := mailbox.MailboxSubscriptionPeriodCanceled
	lockedID := os.Getenv("LOCKED_MAILBOX_ID")
	_, err := api.UpdateMailbox(&mailbox.UpdateMailboxRequest{MailboxID: lockedID, SubscriptionPeriod: &canceled})
	locked := expect[*scw.ResourceLockedError]("locked", err)
	check("locked names the resource", locked.Resource == "mailbox" && locked.ResourceID == lockedID, locked)

	manual := other("TRANSIENT_API_URL", "TRANSIENT_SECRET_KEY")
	creating, err := manual.CreateDomain(&mailbox.CreateDomainRequest{Name: "transient.example", ProjectID: os.Getenv("TRANSIENT_PROJECT_ID")})
	must("CreateDomain", err)
	err = manual.ValidateDomainRecords(&mailbox.ValidateDomainRecordsRequest{DomainID: creating.ID})
	transient := expect[*scw.TransientStateError]("transient_state", err)
	check("transient_state names the state", transient.Resource == "domain" && transient.ResourceID == creating.ID && transient.CurrentState == "creating", transient)

	_, err = api.RestoreMailbox(&mailbox.RestoreMailboxRequest{MailboxID: lockedID})
	precondition := expect[*scw.PreconditionFailedError]("precondition_failed", err)
	check("precondition_failed says what to do", precondition.Precondition == "unknown_precondition" && precondition.HelpMessage != "", precondition)

	_, err = raw(client(), http.MethodPatch, "/mailboxes/"+lockedID, http.Header{"If-Match": {`"0"`}}, map[string]any{"subscription_period": "yearly"})
	precondition = expect[*scw.PreconditionFailedError]("precondition_failed by If-Match", err)
	check("it says to read again", strings.Contains(precondition.HelpMessage, "read it"), precondition)
}

func provokeHTTP() {
	_, err := raw(client(), http.MethodPut, "/domains", nil, map[string]any{})
	response("method_not_allowed", err, http.StatusMethodNotAllowed)
	_, err = raw(client(), http.MethodPost, "/domains", http.Header{"Content-Type": {"text/plain"}}, strings.NewReader("name=x.example"))
	response("unsupported_media_type", err, http.StatusUnsupportedMediaType)
	_, err = api.CreateDomain(&mailbox.CreateDomainRequest{Name: strings.Repeat("x", 2_000_000)})
	response("payload_too_large", err, http.StatusRequestEntityTooLarge)
	_, err = raw(client(), http.MethodGet, "/elsewhere", nil, nil)
	expect[*scw.ResourceNotFoundError]("not_found of a route", err)
}

func provokeOverload() {
	manual := other("TRANSIENT_API_URL", "TRANSIENT_SECRET_KEY")
	var err error
	for calls := 0; err == nil && calls < 1000; calls++ {
		_, err = manual.ListDomains(&mailbox.ListDomainsRequest{})
	}
	response("too_many_requests", err, http.StatusTooManyRequests)
	_, err = other("UNAVAILABLE_API_URL", "SCW_SECRET_KEY").ListDomains(&mailbox.ListDomainsRequest{})
	response("unavailable", err, http.StatusServiceUnavailable)
	_, err = other("SILENT_API_URL", "SCW_SECRET_KEY").ListDomains(&mailbox.ListDomainsRequest{})
	response("deadline_exceeded", err, http.StatusGatewayTimeout)
}

// raw makes a call that the SDK has no method for. The body is a reader, or a value to be encoded; nil for none.
func raw(caller *scw.Client, method, route string, headers http.Header, body any) (map[string]any, error) {
	request := &scw.ScalewayRequest{Method: method, Path: path + route, Headers: headers}
	if request.Headers == nil {
		request.Headers = http.Header{}
	}
	if reader, isReader := body.(io.Reader); isReader {
		request.Body = reader
	} else if body != nil {
		must("the body of "+method, request.SetBody(body))
	}
	found := map[string]any{}
	return found, caller.Do(request, &found)
}

// other returns a client of another Postroom, whose URL and secret are in the environment.
func other(url, secret string) *mailbox.API {
	return mailbox.NewAPI(client(scw.WithAPIURL(os.Getenv(url)), scw.WithAuth(accessKey, os.Getenv(secret))))
}

// response expects an error without a type of its own in the SDK, and checks its type, status and message.
func response(kind string, err error, status int) *scw.ResponseError {
	found := expect[*scw.ResponseError](kind, err)
	check(kind+" has its type, status and message", found.Type == kind && found.StatusCode == status && found.Message != "", found)
	return found
}
