/**
 * The Auth0 Action that says in the access token of one API which tenant its
 * bearer acts for. Bind it to post-login, and, where machine clients belong to
 * one tenant, to credentials-exchange; deploy/terraform/auth0 does.
 *
 * Secrets (none is secret; it is where an Action has its settings):
 *   AUDIENCE      the API's identifier. Tokens for others are left alone: a claim
 *                 that STS reads would change what unrelated roles see.
 *   TENANT_FROM   "organization": the organization that the user signed in to, or
 *                 that the client asked for. "metadata": `tenant` in the user's
 *                 app_metadata, or in the client's metadata, neither of which
 *                 its owner can edit. Never user_metadata, which he can.
 *   TENANT_CLAIM  the claim to write; empty: none, for org_id is there already.
 *   TAGS          "true" in the broker's mode forwarded: the claim that STS turns
 *                 into the principal tags `tenant` and `user`.
 *
 * Without a tenant nothing is written, and the broker and STS refuse: nobody is
 * given a tenant by default. A tenant that is no tenant's name is a mistake of
 * whoever wrote it, and no token is given for it.
 */
const {createHash} = require('node:crypto')

const TAGS = 'https://aws.amazon.com/tags'
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/ // the broker's; a slash or a star would lead into another's files

exports.onExecutePostLogin = async (event, api) => {
  write(event, api, event.user.user_id, event.user.app_metadata, (reason) => api.access.deny(reason))
}

exports.onExecuteCredentialsExchange = async (event, api) => {
  write(event, api, `${event.client.client_id}@clients`, event.client.metadata, (reason) => api.access.deny('invalid_request', reason))
}

function write(event, api, subject, metadata, deny) {
  const {AUDIENCE, TENANT_FROM, TENANT_CLAIM, TAGS: tags} = event.secrets
  if (!AUDIENCE || event.resource_server?.identifier !== AUDIENCE) return
  if (TENANT_FROM !== 'organization' && TENANT_FROM !== 'metadata') return deny('the Action has no TENANT_FROM')
  const tenant = TENANT_FROM === 'organization' ? event.organization?.id : metadata?.tenant
  if (tenant === undefined || tenant === null) return
  if (typeof tenant !== 'string' || !NAME.test(tenant)) return deny('the tenant is not a name')
  if (TENANT_CLAIM) api.accessToken.setCustomClaim(TENANT_CLAIM, tenant)
  if (tags === 'true') {
    const user = opaque('user', `https://${event.request.hostname}/`, subject)
    // Each value is a list of exactly one text, the only form that STS takes.
    api.accessToken.setCustomClaim(TAGS, {principal_tags: {tenant: [tenant], user: [user]}, transitive_tag_keys: ['tenant', 'user']})
  }
}

/**
 * The broker's name of a subject ({user} in a prefix): the base32, in lower case
 * and without padding, of a SHA-256 over the label, the issuer and the subject,
 * each after its length in eight bytes.
 */
function opaque(...fields) {
  const hash = createHash('sha256')
  for (const field of fields) {
    const bytes = Buffer.from(field, 'utf8'), length = Buffer.alloc(8)
    length.writeBigUInt64BE(BigInt(bytes.length))
    hash.update(length).update(bytes)
  }
  let name = '', bits = 0, held = 0
  for (const byte of hash.digest()) {
    held = ((held & 0x1f) << 8) | byte // fewer than five bits are left of the last
    for (bits += 8; bits >= 5; bits -= 5) name += 'abcdefghijklmnopqrstuvwxyz234567'[(held >> (bits - 5)) & 31]
  }
  return name + 'abcdefghijklmnopqrstuvwxyz234567'[(held << (5 - bits)) & 31]
}
