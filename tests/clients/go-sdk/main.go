// The official Go SDK against Postroom: every operation that Postroom serves, then every error type with its typed fields.
//
// Environment: the SDK's own SCW_* variables, and
//
//	READ_ONLY_SECRET_KEY   a read-only key of the same organization
//	EXPIRED_SECRET_KEY     a key of it that has expired
//	FULL_PROJECT_ID        a project whose mailbox quota is exhausted by one mailbox
//	LOCKED_MAILBOX_ID      a mailbox that the operator has locked
//	TRANSIENT_API_URL      another Postroom, where a new domain stays in a transient status
//	TRANSIENT_SECRET_KEY   a key of it
//	TRANSIENT_PROJECT_ID   a project of it, whose keys may make 8 calls per second
//	UNAVAILABLE_API_URL    a gateway whose service is down
//	SILENT_API_URL         a gateway whose service never answers
//
// It prints one line per step and exits with 1 at the first failure.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	mailbox "github.com/scaleway/scaleway-sdk-go/api/mailbox/v1alpha1"
	"github.com/scaleway/scaleway-sdk-go/scw"
)

const (
	password = "correct horse battery staple"
	unknown  = "11111111-2222-4333-8444-555555555555"
)

var (
	api  *mailbox.API
	poll = 50 * time.Millisecond
	wait = 30 * time.Second
)

func main() {
	api = mailbox.NewAPI(client())
	walk()
	provoke()
	fmt.Println("go-sdk: every step passed")
}

func client(options ...scw.ClientOption) *scw.Client {
	made, err := scw.NewClient(append([]scw.ClientOption{scw.WithEnv()}, options...)...)
	must("client", err)
	return made
}

// --- Every operation ---------------------------------------------------------------------------------------------------

func walk() {
	domain, err := api.CreateDomain(&mailbox.CreateDomainRequest{Name: "go-sdk.example"})
	must("CreateDomain", err)
	check("CreateDomain", domain.Name == "go-sdk.example", domain)
	check("host names are bare", !strings.Contains(domain.ImapURL, "/") && strings.HasPrefix(domain.WebmailURL, "https://"), domain)

	records, err := api.GetDomainRecords(&mailbox.GetDomainRecordsRequest{DomainID: domain.ID})
	must("GetDomainRecords", err)
	check("record names end with a dot", strings.HasSuffix(records.Dmarc.DNSName, "."), records.Dmarc)
	check("DMARC is required", records.Dmarc.Level == mailbox.DomainRecordLevelRequired, records.Dmarc)
	check("no error before a validation", records.Mx.Error == nil, records.Mx)

	must("ValidateDomainRecords", api.ValidateDomainRecords(&mailbox.ValidateDomainRecordsRequest{DomainID: domain.ID}))
	domain, err = api.WaitForDomain(&mailbox.WaitForDomainRequest{DomainID: domain.ID, Timeout: &wait, RetryInterval: &poll})
	must("WaitForDomain", err)
	check("the domain is ready", domain.Status == mailbox.DomainStatusReady, domain)
	domains, err := api.ListDomains(&mailbox.ListDomainsRequest{OrderBy: mailbox.ListDomainsRequestOrderByNameAsc, Search: scw.StringPtr("GO-SDK")}, scw.WithAllPages())
	must("ListDomains", err)
	check("ListDomains", domains.TotalCount == 1 && domains.Domains[0].ID == domain.ID, domains)

	domain, err = api.GetDomain(&mailbox.GetDomainRequest{DomainID: domain.ID})
	must("GetDomain", err)
	check("GetDomain", domain.Status == mailbox.DomainStatusReady && domain.OrganizationID != "", domain)

	created, err := api.BatchCreateMailboxes(&mailbox.BatchCreateMailboxesRequest{
		DomainID: domain.ID,
		Mailboxes: []*mailbox.BatchCreateMailboxesRequestMailboxParameters{
			{LocalPart: "ann", Password: password},
			{LocalPart: "bob", Password: password},
		},
	})
	must("BatchCreateMailboxes", err)
	check("BatchCreateMailboxes", len(created.Mailboxes) == 2 && created.Mailboxes[1].Email == "bob@go-sdk.example", created)
	ann, bob := created.Mailboxes[0], created.Mailboxes[1]
	ann, err = api.WaitForMailbox(&mailbox.WaitForMailboxRequest{MailboxID: ann.ID, Timeout: &wait, RetryInterval: &poll})
	must("WaitForMailbox", err)
	check("the mailbox is ready", ann.Status == mailbox.MailboxStatusReady, ann)
	listed, err := api.ListMailboxes(&mailbox.ListMailboxesRequest{Search: scw.StringPtr("ann@go-sdk.example")})
	must("ListMailboxes", err)
	check("ListMailboxes", listed.TotalCount == 1 && listed.Mailboxes[0].ID == ann.ID, listed)

	got, err := api.GetMailbox(&mailbox.GetMailboxRequest{MailboxID: ann.ID})
	must("GetMailbox", err)
	check("GetMailbox", got.Email == ann.Email && got.SubscriptionPeriodStartedAt != nil && got.DeletionScheduledAt == nil, got)

	yearly, secret := mailbox.MailboxSubscriptionPeriodYearly, "another long password"
	updated, err := api.UpdateMailbox(&mailbox.UpdateMailboxRequest{MailboxID: ann.ID, SubscriptionPeriod: &yearly, NewPassword: &secret})
	must("UpdateMailbox", err)
	check("the next period is yearly", updated.NextSubscriptionPeriod == yearly, updated)

	alias, err := api.CreateAlias(&mailbox.CreateAliasRequest{MailboxID: ann.ID, LocalPart: "info"})
	must("CreateAlias", err)
	alias, err = api.WaitForAlias(&mailbox.WaitForAliasRequest{AliasID: alias.ID, Timeout: &wait, RetryInterval: &poll})
	must("WaitForAlias", err)
	aliases, err := api.ListAliases(&mailbox.ListAliasesRequest{MailboxID: &ann.ID})
	must("ListAliases", err)
	check("ListAliases", aliases.TotalCount == 1 && aliases.Aliases[0].ID == alias.ID, aliases)
	alias, err = api.GetAlias(&mailbox.GetAliasRequest{AliasID: alias.ID})
	must("GetAlias", err)
	check("GetAlias", alias.Email == "info@go-sdk.example" && alias.MailboxID == ann.ID, alias)
	alias, err = api.UpdateAlias(&mailbox.UpdateAliasRequest{AliasID: alias.ID, Description: scw.StringPtr("for everybody")})
	must("UpdateAlias", err)
	check("UpdateAlias", alias.Description == "for everybody", alias)

	_, err = api.DeleteAlias(&mailbox.DeleteAliasRequest{AliasID: alias.ID})
	must("DeleteAlias", err)
	forward(domain, ann)

	deleted, err := api.DeleteMailbox(&mailbox.DeleteMailboxRequest{MailboxID: bob.ID})
	must("DeleteMailbox", err)
	check("DeleteMailbox", deleted.Status == mailbox.MailboxStatusDeletionScheduled && deleted.DeletionScheduledAt != nil, deleted)
	restored, err := api.RestoreMailbox(&mailbox.RestoreMailboxRequest{MailboxID: bob.ID})
	must("RestoreMailbox", err)
	check("RestoreMailbox", restored.Status == mailbox.MailboxStatusReady, restored)

	_, err = api.DeleteDomain(&mailbox.DeleteDomainRequest{DomainID: domain.ID})
	precondition := expect[*scw.PreconditionFailedError]("DeleteDomain with mailboxes", err)
	check("DeleteDomain names the precondition", precondition.Precondition == "resource_still_in_use", precondition)
	for _, each := range []string{ann.ID, bob.ID} {
		_, err = api.DeleteMailbox(&mailbox.DeleteMailboxRequest{MailboxID: each})
		must("DeleteMailbox", err)
	}
	domain, err = api.DeleteDomain(&mailbox.DeleteDomainRequest{DomainID: domain.ID})
	must("DeleteDomain", err)
	check("DeleteDomain", domain.Status == mailbox.DomainStatusDeleting, domain)
}

// forward walks every operation about forwardings.
func forward(domain *mailbox.Domain, ann *mailbox.Mailbox) {
	forwarding, err := api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: "Ann+copy@elsewhere.example"})
	must("CreateForwarding", err)
	check("CreateForwarding", forwarding.MailboxID == ann.ID && forwarding.Email == "Ann+copy@elsewhere.example" && forwarding.CreatedAt != nil, forwarding)
	forwarding, err = api.WaitForForwarding(&mailbox.WaitForForwardingRequest{ForwardingID: forwarding.ID, Timeout: &wait, RetryInterval: &poll})
	must("WaitForForwarding", err)
	check("the forwarding is ready", forwarding.Status == mailbox.ForwardingStatusReady, forwarding)
	second, err := api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: "bob@go-sdk.example"})
	must("CreateForwarding to a local mailbox", err)

	// The SDK adds the default project as a filter.
	all, err := api.ListForwardings(&mailbox.ListForwardingsRequest{PageSize: scw.Uint32Ptr(1), OrderBy: mailbox.ListForwardingsRequestOrderByEmailAsc, MailboxID: &ann.ID}, scw.WithAllPages())
	must("ListForwardings", err)
	check("ListForwardings", all.TotalCount == 2 && len(all.Forwardings) == 2 && all.Forwardings[0].ID == forwarding.ID, all)
	ready, err := api.ListForwardings(&mailbox.ListForwardingsRequest{OrganizationID: &domain.OrganizationID, Status: mailbox.ForwardingStatusReady})
	must("ListForwardings of an organization", err)
	check("ListForwardings of an organization", ready.TotalCount == 2, ready)
	updating, err := api.ListForwardings(&mailbox.ListForwardingsRequest{Status: mailbox.ForwardingStatusUpdating})
	must("ListForwardings by status", err)
	check("ListForwardings by status", updating.TotalCount == 0, updating)

	forwarding, err = api.UpdateForwarding(&mailbox.UpdateForwardingRequest{ForwardingID: forwarding.ID, Email: scw.StringPtr("ann@BÜCHER.example")})
	must("UpdateForwarding", err)
	check("UpdateForwarding", forwarding.Email == "ann@xn--bcher-kva.example" && forwarding.Status == mailbox.ForwardingStatusReady, forwarding)
	unchanged, err := api.UpdateForwarding(&mailbox.UpdateForwardingRequest{ForwardingID: forwarding.ID})
	must("UpdateForwarding without a change", err)
	check("UpdateForwarding without a change", unchanged.UpdatedAt.Equal(*forwarding.UpdatedAt), unchanged)
	found, err := api.GetForwarding(&mailbox.GetForwardingRequest{ForwardingID: forwarding.ID})
	must("GetForwarding", err)
	check("GetForwarding", found.Email == forwarding.Email, found)

	settings, err := api.GetMailboxForwarding(&mailbox.GetMailboxForwardingRequest{MailboxID: ann.ID})
	must("GetMailboxForwarding", err)
	check("forwardings are enabled and keep a copy by default", settings.MailboxID == ann.ID && settings.KeepCopy && settings.Enabled && settings.CreatedAt != nil, settings)
	settings, err = api.UpdateMailboxForwarding(&mailbox.UpdateMailboxForwardingRequest{MailboxID: ann.ID, KeepCopy: scw.BoolPtr(false)})
	must("UpdateMailboxForwarding", err)
	check("only keep_copy has changed", !settings.KeepCopy && settings.Enabled, settings)
	settings, err = api.UpdateMailboxForwarding(&mailbox.UpdateMailboxForwardingRequest{MailboxID: ann.ID, Enabled: scw.BoolPtr(false)})
	must("UpdateMailboxForwarding", err)
	check("only enabled has changed", !settings.KeepCopy && !settings.Enabled, settings)

	_, err = api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: ann.Email})
	invalid := expect[*scw.InvalidArgumentsError]("a forwarding to the mailbox itself", err)
	check("invalid_arguments names the destination", invalid.Details[0].ArgumentName == "email" && invalid.Details[0].Reason == "constraint", invalid)
	_, err = api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: second.Email})
	conflict := expect[*scw.ResponseError]("a second forwarding to one destination", err)
	check("conflict names the forwarding", conflict.StatusCode == 409 && strings.Contains(conflict.Message, second.ID), conflict)
	for number := range 3 {
		_, err = api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: fmt.Sprintf("%d@elsewhere.example", number)})
		must("CreateForwarding", err)
	}
	_, err = api.CreateForwarding(&mailbox.CreateForwardingRequest{MailboxID: ann.ID, Email: "sixth@elsewhere.example"})
	quota := expect[*scw.QuotasExceededError]("a sixth forwarding", err)
	check("quotas_exceeded has the numbers of forwardings", quota.Details[0].Resource == "forwardings" && quota.Details[0].Quota == 5, quota)

	deleted, err := api.DeleteForwarding(&mailbox.DeleteForwardingRequest{ForwardingID: second.ID})
	must("DeleteForwarding", err)
	check("DeleteForwarding", deleted.Status == mailbox.ForwardingStatusDeleting, deleted)
	_, err = api.GetForwarding(&mailbox.GetForwardingRequest{ForwardingID: second.ID})
	missing := expect[*scw.ResourceNotFoundError]("GetForwarding after DeleteForwarding", err)
	check("not_found names the forwarding", missing.Resource == "forwarding" && missing.ResourceID == second.ID, missing)
}

// --- Checks ------------------------------------------------------------------------------------------------------------

func must(step string, err error) {
	check(step, err == nil, err)
}

func check(step string, holds bool, found any) {
	if !holds {
		fmt.Printf("FAILED %s: %+v\n", step, found)
		os.Exit(1)
	}
	fmt.Println("ok", step)
}

func expect[E error](step string, err error) E {
	var found E
	check(step, errors.As(err, &found), err)
	return found
}
