// The cases are answered by one run of simulate.mjs; each is its own test. Names state the rule.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const account = '123456789012'
const bucket = 'arn:aws:s3:::uploads'
const key = `arn:aws:kms:eu-west-1:${account}:key/11111111-2222-3333-4444-555555555555`
const viaS3 = { 'kms:ViaService': 's3.eu-west-1.amazonaws.com' }
const arnContext = 'kms:EncryptionContext:aws:s3:arn'

const policy = (...statements) => ({ Version: '2012-10-17', Statement: statements })
const grant = (Action, Resource, Condition) => ({ Effect: 'Allow', Action, Resource, ...(Condition && { Condition }) })
const forbid = (Action, Resource, Condition) => ({ ...grant(Action, Resource, Condition), Effect: 'Deny' })

const objects = ['s3:GetObject', 's3:PutObject']
const wide = policy(grant(['s3:*', 'kms:*'], '*'))
const acme = policy(
  grant(objects, `${bucket}/tenants/acme/*`),
  grant('s3:ListBucket', bucket, { StringLike: { 's3:prefix': ['tenants/acme/*'] } }),
)
const byTag = policy(grant(objects, `${bucket}/tenants/\${aws:PrincipalTag/tenant}/*`))
const listByTag = policy(grant('s3:ListBucket', bucket, { StringLike: { 's3:prefix': '${aws:PrincipalTag/tenant}/*' } }))
const viaService = policy(grant(['kms:Decrypt', 'kms:GenerateDataKey'], key, { StringEquals: viaS3 }))
const encryptionContext = policy(grant('kms:Decrypt', key, { StringLike: { [arnContext]: `${bucket}/tenants/acme/*` } }))
const fromOffice = policy(grant(objects, `${bucket}/*`, { IpAddress: { 'aws:SourceIp': ['192.0.2.0/24', '2001:db8::/32'] } }))
const star = policy(grant('s3:ListBucket', bucket, { StringLike: { 's3:prefix': 'a${*}b/*' } }))
const starResource = policy(grant(objects, `${bucket}/a\${*}b/*`))

const base = {
  principal: `arn:aws:sts::${account}:assumed-role/tenant-uploads/name`,
  identityPolicies: [wide],
  sessionPolicy: acme,
  action: 's3:GetObject',
  resource: `${bucket}/tenants/acme/report.pdf`,
  resourceAccount: account,
  context: {},
}
const list = { action: 's3:ListBucket', resource: bucket }
const decrypt = { action: 'kms:Decrypt', resource: key, sessionPolicy: null }
const prefix = (value) => ({ context: { 's3:prefix': value } })
const object = (name) => ({ resource: `${bucket}/${name}` })
const role = (...identityPolicies) => ({ identityPolicies, sessionPolicy: null })
const tag = (value) => ({ context: { 'aws:PrincipalTag/tenant': value } })
const from = (value) => ({ context: { 'aws:SourceIp': value } })
const under = (value) => ({ context: { ...viaS3, [arnContext]: value } })

const cases = []
const want = (result, name, ...parts) => cases.push({ name, result, input: Object.assign({ id: name }, base, ...parts) })
const allow = (...rest) => want('Allowed', ...rest)
const deny = (...rest) => want('ImplicitlyDenied', ...rest)
const refuse = (...rest) => want('ExplicitlyDenied', ...rest)
const fail = (error, name, ...parts) => cases.push({ name, error, input: Object.assign({ id: name }, base, ...parts) })

allow('an object inside the prefix')
allow('writing inside the prefix', { action: 's3:PutObject' })
deny('an object of a sibling', object('tenants/other/report.pdf'))
deny('an object of a sibling whose name goes on', object('tenants/acme-corp/report.pdf'))
deny('the prefix without its slash', object('tenants/acme'))
deny('an object in other case', object('tenants/ACME/report.pdf'))
deny('the same key in another bucket', { resource: 'arn:aws:s3:::other/tenants/acme/report.pdf' })
deny('an action that the session policy does not have', { action: 's3:DeleteObject' })
allow('a key with a colon and the form of a variable', object('tenants/acme/a:b${c}d'))
deny('a question mark in the key is a character', object('tenants/acm?/x'))
allow('dot segments are bytes of the key', object('tenants/acme/../other/x'))

allow('listing the prefix', list, prefix('tenants/acme/'))
allow('listing below the prefix', list, prefix('tenants/acme/2026/'))
deny('listing a sibling', list, prefix('tenants/other/'))
deny('listing the prefix without its slash', list, prefix('tenants/acme'))
deny('listing without a prefix', list)
deny('listing with an empty prefix', list, prefix(''))
allow('context keys in other case', list, { context: { 'S3:Prefix': 'tenants/acme/' } })

allow('the role alone, without a session policy', { sessionPolicy: null }, object('tenants/other/x'))
deny('a session policy cannot add to the role', { identityPolicies: [acme], sessionPolicy: wide }, object('tenants/other/x'))
deny('a role without policies', { identityPolicies: [] })
allow('two policies of a role add up', role(byTag, acme))
deny('an object of another account, which no bucket policy shares', { resourceAccount: '210987654321' })

allow('role bounded by tag: its own tenant', role(byTag), tag('acme'))
deny('role bounded by tag: another tenant', role(byTag), tag('other'))
deny('role bounded by tag: no tag', role(byTag))
deny('role bounded by tag: a star in the tag is a character', role(byTag), tag('*'))
allow('role and session policy both bound: agreeing', { identityPolicies: [byTag] }, tag('acme'))
deny('role and session policy both bound: the role is for another tenant', { identityPolicies: [byTag] }, tag('other'))
allow('a variable in a condition', role(listByTag), list, { context: { 's3:prefix': 'acme/x', 'aws:PrincipalTag/tenant': 'acme' } })
deny('a variable in a condition, unresolved', role(listByTag), list, prefix('acme/x'))

allow('KMS via S3', role(viaService), decrypt, { context: viaS3 })
allow('KMS via S3: a data key', role(viaService), decrypt, { action: 'kms:GenerateDataKey', context: viaS3 })
deny('KMS via another service', role(viaService), decrypt, { context: { 'kms:ViaService': 'ec2.eu-west-1.amazonaws.com' } })
deny('KMS called directly', role(viaService), decrypt)
deny('KMS with another key', role(viaService), decrypt, { context: viaS3, resource: key.replace('1111', '9999') })
allow('KMS for an object inside', role(encryptionContext), decrypt, under(`${bucket}/tenants/acme/x`))
deny('KMS for an object outside', role(encryptionContext), decrypt, under(`${bucket}/tenants/other/x`))
deny('KMS without encryption context', role(encryptionContext), decrypt, { context: viaS3 })
allow('KMS: role and session policy', decrypt, { sessionPolicy: encryptionContext }, under(`${bucket}/tenants/acme/x`))
deny('KMS: session policy narrower', decrypt, { sessionPolicy: encryptionContext }, under(`${bucket}/tenants/other/x`))
deny('KMS: role narrower', decrypt, { identityPolicies: [encryptionContext], sessionPolicy: wide }, under(`${bucket}/tenants/other/x`))
refuse('KMS: explicit deny of the session policy', decrypt, under(`${bucket}/x`), { sessionPolicy: policy(forbid('kms:*', '*')) })
refuse('KMS: explicit deny of the role', decrypt, under(`${bucket}/x`), { identityPolicies: [policy(forbid('kms:*', '*'))], sessionPolicy: wide })
deny('KMS: the key of another account', decrypt, { resource: key.replace(account, '210987654321'), resourceAccount: '210987654321' })

allow('from an address inside', role(fromOffice), from('192.0.2.7'))
allow('from an IPv6 address inside', role(fromOffice), from('2001:db8::7'))
deny('from an address outside', role(fromOffice), from('198.51.100.7'))
deny('from no address', role(fromOffice))

refuse('explicit deny in the role', { identityPolicies: [wide, policy(forbid('s3:GetObject', '*'))] })
refuse('explicit deny in the session policy', { sessionPolicy: policy(grant('s3:*', '*'), forbid('s3:GetObject', '*')) })
refuse('explicit deny in the role, nothing in the session policy', { identityPolicies: [policy(forbid('s3:*', '*'))] }, object('tenants/other/x'))
refuse('explicit deny when a key is missing', { identityPolicies: [wide, policy(forbid('s3:*', '*', { StringNotEquals: { 'aws:PrincipalTag/tenant': 'acme' } }))] })

allow('${*} is a star', role(star), list, prefix('a*b/x'))
deny('${*} is no wildcard', role(star), list, prefix('aXb/x'))
deny('${*} in a resource is no wildcard', role(starResource), object('aXb/x'))
const calledVia = (operator) => role(policy(grant('s3:*', '*', { [operator]: { 'aws:CalledVia': 'athena.amazonaws.com' } })))
const via = (...services) => ({ context: { 'aws:CalledVia': services } })
allow('ForAnyValue: one of two values', calledVia('ForAnyValue:StringEquals'), via('a.amazonaws.com', 'athena.amazonaws.com'))
deny('ForAnyValue: no value', calledVia('ForAnyValue:StringEquals'))
deny('ForAllValues: one of two values', calledVia('ForAllValues:StringEquals'), via('a.amazonaws.com', 'athena.amazonaws.com'))
allow('ForAllValues: no value', calledVia('ForAllValues:StringEquals'))
allow('a key of many values given one', calledVia('ForAnyValue:StringEquals'), { context: { 'aws:CalledVia': 'athena.amazonaws.com' } })
deny('a key of many values, without a set operator', calledVia('StringEquals'), { context: { 'aws:CalledVia': 'athena.amazonaws.com' } })
allow('IfExists: the key is missing', role(policy(grant('s3:ListBucket', bucket, { StringLikeIfExists: { 's3:prefix': 'x/*' } }))), list)
allow('an action without resources', { action: 's3:ListAllMyBuckets', resource: '*', sessionPolicy: null })

fail(/invalid\.action/, 'an unknown action', { action: 's3:GetObjekt' })
fail(/invalid\.service/, 'an unknown service', { action: 's33:GetObject' })
fail(/invalid\.action/, 'an action pattern', { action: 's3:Get*' })
fail(/no\.resource\.types/, 'a bucket for an action on objects', { resource: bucket })
fail(/no\.resource\.types/, 'an object for an action on buckets', { action: 's3:ListBucket' })
fail(/wildcard/, 'a star in the resource', object('tenants/acme/*'))
fail(/pattern/, 'a star as resource of an action on objects', { resource: '*' })
fail(/not an ARN/, 'a resource that is not an ARN', { resource: 'uploads/x' })
fail(/line terminator/, 'a line terminator in the resource', object('tenants/acme/a\nb'))
fail(/line terminator/, 'a line separator in the context', list, prefix('tenants/acme/a\u2028b'))
fail(/"s3:prefx" is unknown/, 'an unknown context key', list, { context: { 's3:prefx': 'tenants/acme/' } })
fail(/is unknown/, 'an encryption context without a name', decrypt, { context: { 'kms:EncryptionContext:': 'x' } })
fail(/twice/, 'a context key in two spellings', list, { context: { 's3:prefix': 'a', 'S3:prefix': 'b' } })
fail(/single value/, 'two values for a key that takes one', list, prefix(['tenants/acme/', 'x']))
fail(/not a string/, 'a number in the context', list, prefix(7))
fail(/empty and a variable/, 'an empty variable', role(byTag), tag(''))
fail(/not an IP address/, 'an address that is none', role(fromOffice), from('192.0.2.0/24'))
fail(/principal/, 'a role instead of its session', { principal: `arn:aws:iam::${account}:role/tenant-uploads` })
fail(/12 digits/, 'an account that is none', { resourceAccount: '1234' })
fail(/account of the ARN/, 'a key of another account than said', decrypt, { resourceAccount: '210987654321' })
fail(/Version/, 'a policy of the older version', { sessionPolicy: { ...acme, Version: '2008-10-17' } })
fail(/Version/, 'a policy without version', { identityPolicies: [{ Statement: wide.Statement }] })
fail(/policy is invalid/, 'a session policy with a principal', { sessionPolicy: policy({ ...grant('s3:*', '*'), Principal: '*' }) })
fail(/policy is invalid/, 'a role policy without effect', { identityPolicies: [policy({ Action: 's3:*', Resource: '*' })] })
fail(/"StringLyke" is unknown/, 'an unknown condition operator', role(policy(grant('s3:*', '*', { StringLyke: { 's3:prefix': 'x' } }))))
fail(/not an object/, 'a policy as a string', { sessionPolicy: JSON.stringify(acme) })
fail(/"sessionPolicy" is missing/, 'a session policy left out', { sessionPolicy: undefined })
fail(/"session" is unknown/, 'a misspelt member', { session: null })
fail(/not an array/, 'identity policies that are no list', { identityPolicies: wide })
fail(/context is not an object/, 'a context that is no object', { context: null })
fail(/"action" is not a string/, 'an action that is no string', { action: null })

const script = fileURLToPath(new URL('simulate.mjs', import.meta.url))

function run(input) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { input, maxBuffer: 1 << 26 })
  assert.equal(stderr.toString(), '')
  assert.equal(status, 0)
  return stdout.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line))
}

const answers = run(cases.map(({ input }) => JSON.stringify(input) + '\n').join(''))

test('every case is answered once and in order', () => {
  assert.deepEqual(answers.map(({ id }) => id), cases.map(({ name }) => name))
})

cases.forEach(({ name, result, error }, i) => {
  test(name, () => {
    if (error === undefined) return assert.deepEqual(answers[i], { id: name, result })
    assert.match(answers[i].error, error)
    assert.equal(answers[i].result, undefined)
  })
})

test('a key that the action does not have is named as ignored', () => {
  const [answer] = run(JSON.stringify({ ...base, id: 'x', context: { 's3:prefix': 'tenants/acme/' } }))
  assert.deepEqual(answer, { id: 'x', result: 'Allowed', ignored: ['s3:prefix'] })
})

test('a key ignored beside an encryption context stays ignored', () => {
  const odd = policy(grant('kms:Decrypt', key, { StringEquals: { 's3:prefix': 'x' } }))
  const context = { ...under(`${bucket}/x`).context, 's3:prefix': 'x' }
  const [answer] = run(JSON.stringify({ ...base, ...decrypt, id: 'x', identityPolicies: [odd], context }))
  assert.deepEqual(answer, { id: 'x', result: 'ImplicitlyDenied', ignored: ['s3:prefix'] })
})

test('a line that is no case is an error in its place, and the next is answered', () => {
  const good = Buffer.from(JSON.stringify({ ...base, id: 'good' }))
  const newline = Buffer.from('\n')
  const latin1 = Buffer.from(JSON.stringify({ ...base, ...object('tenants/acme/\u00e9') }), 'latin1')
  const bad = [[latin1, /encoded data/], [Buffer.from('{'), /JSON/], [Buffer.from(''), /JSON/]]
  for (const text of ['null', '[]', '7']) bad.push([Buffer.from(text), /case is not an object/])
  const got = run(Buffer.concat([...bad.map(([line]) => line), good].flatMap((line) => [line, newline])))
  assert.equal(got.length, bad.length + 1)
  for (const [i, answer] of got.slice(0, -1).entries()) {
    assert.deepEqual(Object.keys(answer), ['id', 'error'])
    assert.ok(answer.error.startsWith(`line ${i + 1}: `), answer.error)
    assert.match(answer.error, bad[i][1])
  }
  assert.deepEqual(got.at(-1), { id: 'good', result: 'Allowed' })
})

test('U+2028 inside a line does not end it', () => {
  const [answer, ...rest] = run(JSON.stringify({ ...base, id: 'a\u2028b' }))
  assert.deepEqual(answer, { id: 'a\u2028b', result: 'Allowed' })
  assert.deepEqual(rest, [])
})

test('a line without end stops the run and says so', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { input: Buffer.alloc(2 << 20, 'x') })
  assert.equal(stdout.toString(), '')
  assert.match(stderr.toString(), /line longer than/)
  assert.notEqual(status, 0)
})

test('no input, no answers', () => {
  assert.deepEqual(run(''), [])
})
