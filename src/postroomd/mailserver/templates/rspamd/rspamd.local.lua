-- Written by `postroom mail-config rspamd`, for /etc/rspamd. See docs/mail-server.md.
--
-- Postfix lets a mailbox send from its own addresses only (smtpd_sender_login_maps), by the envelope. The From that
-- people see must be the same address. Without it, or with several, clients show one of their choice.
rspamd_config:register_symbol({
  name = 'POSTROOM_FOREIGN_FROM',
  type = 'prefilter',
  callback = function(task)
    if not task:get_user() then
      return
    end
    local envelope, shown = task:get_from('smtp'), task:get_from('mime')
    local own = envelope and envelope[1] and envelope[1].addr:lower()
    if not own or own == '' then
      return
    end
    -- Counted in the text: rspamd does not take `From :` (RFC 5322, section 4.5) for one, and clients do.
    local _, headers = ('\n' .. tostring(task:get_raw_headers())):lower():gsub('\nfrom[ \t]*:', '')
    if headers ~= 1 or not shown or #shown ~= 1 or shown[1].addr:lower() ~= own then
      task:set_pre_result('reject', 'The From address must be the envelope sender')
    end
  end,
})
