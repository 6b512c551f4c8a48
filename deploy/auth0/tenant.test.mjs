// node --test deploy/auth0
import assert from 'node:assert/strict'
import {createRequire} from 'node:module'
import {test} from 'node:test'

const action = createRequire(import.meta.url)('./tenant.js')

const AUDIENCE = 'https://uploads.acme.example'
const TAGS = 'https://aws.amazon.com/tags'
const CLAIM = 'https://acme.example/tenant'
const forwarded = {AUDIENCE, TENANT_FROM: 'organization', TENANT_CLAIM: '', TAGS: 'true'}
const minted = {AUDIENCE, TENANT_FROM: 'metadata', TENANT_CLAIM: CLAIM, TAGS: 'false'}

// What the broker, in Go, calls these subjects of https://acme.eu.auth0.com/.
const names = {
  'auth0|65f0a11ce0000000000a11ce': 'u7j65yuphdoxg52jdp5hycbcjyrtonohyohfcjkpcfrfedbk6exq',
  'abc@clients': 'sncx4bizeq2hyu3ybhtxz3toatiueiwvvy46wujwbrtieuxcme6a',
  'custom|Zoë/*': 's7nm76ijockvvw4wccozosdwvau6euqvnngx4uitgozucis5tpma',
}
const tags = (tenant, subject) => ({principal_tags: {tenant: [tenant], user: [names[subject]]}, transitive_tag_keys: ['tenant', 'user']})

const login = (secrets, more = {}) => ({
  secrets, resource_server: {identifier: AUDIENCE}, request: {hostname: 'acme.eu.auth0.com'},
  organization: {id: 'org_acme', name: 'acme'},
  user: {user_id: 'auth0|65f0a11ce0000000000a11ce', app_metadata: {}, user_metadata: {tenant: 'globex'}}, ...more,
})
const machine = (secrets, more = {}) => ({
  secrets, resource_server: {identifier: AUDIENCE}, request: {hostname: 'acme.eu.auth0.com'},
  client: {client_id: 'abc', metadata: {}}, ...more,
})

async function run(handler, event) {
  const claims = {}, denied = []
  await action[handler](event, {
    accessToken: {setCustomClaim: (name, value) => { claims[name] = value }},
    idToken: {setCustomClaim: () => assert.fail('an ID token is nobody’s access')},
    access: {deny: (...reason) => denied.push(reason)},
  })
  return {claims, denied}
}
const users = (event) => run('onExecutePostLogin', event)
const machines = (event) => run('onExecuteCredentialsExchange', event)

const nothing = {claims: {}, denied: []}
const noName = {claims: {}, denied: [['the tenant is not a name']]}

test('an organization is the tenant, and the tags have the shape that STS takes', async () => {
  assert.deepEqual(await users(login(forwarded)), {claims: {[TAGS]: tags('org_acme', 'auth0|65f0a11ce0000000000a11ce')}, denied: []})
})

test('the user’s name is the broker’s, whatever the subject holds', async () => {
  const user = {user_id: 'custom|Zoë/*'}
  assert.deepEqual((await users(login(forwarded, {user}))).claims, {[TAGS]: tags('org_acme', 'custom|Zoë/*')})
})

test('the claim is written where one is named, and the tags only where they are asked for', async () => {
  assert.deepEqual((await users(login({...forwarded, TENANT_CLAIM: CLAIM, TAGS: 'false'}))).claims, {[CLAIM]: 'org_acme'})
  assert.deepEqual(await users(login({...forwarded, TAGS: ''})), nothing)
})

test('without an organization nothing is written, whatever metadata say', async () => {
  const user = {user_id: 'auth0|x', app_metadata: {tenant: 'acme'}}
  assert.deepEqual(await users(login(forwarded, {organization: undefined, user})), nothing)
})

test('app_metadata name the tenant where they are asked for; the organization and user_metadata then do not', async () => {
  const user = {user_id: 'auth0|x', app_metadata: {tenant: 'acme'}, user_metadata: {tenant: 'globex'}}
  assert.deepEqual(await users(login(minted, {user})), {claims: {[CLAIM]: 'acme'}, denied: []})
  assert.deepEqual(await users(login(minted)), nothing)
  assert.deepEqual(await users(login(minted, {user: {user_id: 'auth0|x'}})), nothing)
})

test('a machine client has the tenant of its metadata, or of the organization that it asked for', async () => {
  const client = {client_id: 'abc', metadata: {tenant: 'acme'}}
  assert.deepEqual(await machines(machine({...minted, TAGS: 'true'}, {client})), {claims: {[CLAIM]: 'acme', [TAGS]: tags('acme', 'abc@clients')}, denied: []})
  assert.deepEqual((await machines(machine(forwarded, {organization: {id: 'org_acme'}}))).claims, {[TAGS]: tags('org_acme', 'abc@clients')})
  assert.deepEqual(await machines(machine(forwarded, {client})), nothing)
  assert.deepEqual(await machines(machine(minted)), nothing)
})

test('tokens for other APIs are left alone', async () => {
  for (const resource_server of [undefined, {}, {identifier: 'https://other.example'}, {identifier: AUDIENCE + '/'}]) {
    assert.deepEqual(await users(login(forwarded, {resource_server})), nothing)
    assert.deepEqual(await machines(machine(forwarded, {resource_server, organization: {id: 'org_acme'}})), nothing)
  }
  assert.deepEqual(await users(login({...forwarded, AUDIENCE: ''}, {resource_server: {identifier: ''}})), nothing)
  assert.deepEqual(await users(login({...forwarded, AUDIENCE: undefined}, {resource_server: undefined})), nothing)
})

test('what is no tenant’s name is refused', async () => {
  for (const tenant of ['', '*', 'a/b', 'acme/', '../acme', '-acme', 'acme\n', 'ac me', '${x}', 'é', 'a'.repeat(64), 7, true, ['acme'], {toString: () => 'acme'}]) {
    const user = {user_id: 'auth0|x', app_metadata: {tenant}}
    assert.deepEqual(await users(login({...minted, TAGS: 'true'}, {user})), noName, String(tenant))
    assert.deepEqual(await machines(machine(minted, {client: {client_id: 'abc', metadata: {tenant}}})), {claims: {}, denied: [['invalid_request', 'the tenant is not a name']]})
  }
  for (const tenant of ['a', 'A-_9', 'a'.repeat(63)]) {
    assert.deepEqual((await users(login(minted, {user: {user_id: 'auth0|x', app_metadata: {tenant}}}))).claims, {[CLAIM]: tenant})
  }
})

test('an Action without its setting gives no token', async () => {
  for (const TENANT_FROM of [undefined, '', 'user_metadata']) {
    assert.deepEqual(await users(login({...forwarded, TENANT_FROM})), {claims: {}, denied: [['the Action has no TENANT_FROM']]})
  }
})
