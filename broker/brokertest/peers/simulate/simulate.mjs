// Reads cases of IAM evaluation as JSON lines on stdin, asks iam-simulate, and writes one JSON line for each, in order.
// README.md has the format. The rule that every check here serves: what could not be judged is an "error", never a denial.
import { isIP } from 'node:net'
import { createValidatedPolicy, validateResourcePolicy, validateSessionPolicy } from '@cloud-copilot/iam-policy'
import {
  allowedContextKeysForRequest,
  isConditionKeyArray,
  runSimulation,
  runUnsafeSimulation,
  typeForContextKey,
} from '@cloud-copilot/iam-simulate'

const members = ['id', 'principal', 'identityPolicies', 'sessionPolicy', 'action', 'resource', 'resourceAccount', 'context']
const verdicts = new Set(['Allowed', 'ExplicitlyDenied', 'ImplicitlyDenied'])
const roleSession = /^arn:aws[a-z-]*:sts::\d{12}:assumed-role\/[^/*]+\/[^/*]+$/
const maxLine = 1 << 20 // bytes; a case holds a few policies of at most 10,240 characters each
const maxPolicies = 10_000 // remembered; some 50 MB at worst

// The simulator's regular expressions use "." for "?" and "*", and "." stands for none of these in JavaScript.
const lineTerminator = /[\n\r\u2028\u2029]/

// The simulator takes an operator that it does not know as a condition that is not met.
const operators = new Set(
  ['String', 'Numeric', 'Date', 'Arn']
    .flatMap((type) => ['Equals', 'NotEquals'].map((op) => type + op))
    .concat(['StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase', 'StringLike', 'StringNotLike', 'ArnLike', 'ArnNotLike'])
    .concat(['Numeric', 'Date'].flatMap((type) => ['LessThan', 'LessThanEquals', 'GreaterThan', 'GreaterThanEquals'].map((op) => type + op)))
    .concat(['Bool', 'BinaryEquals', 'IpAddress', 'NotIpAddress', 'Null'])
    .map((op) => op.toLowerCase()),
)

const asList = (value) => (Array.isArray(value) ? value : [value])
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

function check(holds, message) {
  if (!holds) throw new Error(message)
}

// checkCase refuses a case with a member missing, misspelt or of the wrong form: the simulator would answer many of these with a denial.
function checkCase(input) {
  check(isObject(input), 'case is not an object')
  for (const name of members) check(Object.hasOwn(input, name), `member "${name}" is missing`)
  for (const name of Object.keys(input)) check(members.includes(name), `member "${name}" is unknown`)
  for (const name of ['id', 'principal', 'action', 'resource', 'resourceAccount']) {
    check(typeof input[name] === 'string', `"${name}" is not a string`)
  }
  check(roleSession.test(input.principal), 'principal is not an assumed-role session')
  check(/^\d{12}$/.test(input.resourceAccount), 'resourceAccount is not 12 digits')
  check(Array.isArray(input.identityPolicies), 'identityPolicies is not an array')
  check(isObject(input.context), 'context is not an object')
  checkResource(input.resource, input.resourceAccount)
}

// checkResource refuses wildcards, which the simulator reads as a pattern, except the "*" of actions that have no resource.
function checkResource(resource, account) {
  if (resource === '*') return
  const parts = resource.split(':')
  check(parts.length >= 6 && parts[0] === 'arn', 'resource is not an ARN')
  check(!resource.includes('*'), 'resource has a wildcard')
  check(!lineTerminator.test(resource), 'resource has a line terminator, which the simulator matches by no wildcard')
  check(parts[4] === '' || parts[4] === account, 'resourceAccount is not the account of the ARN')
}

// policyOf gives the validated form of a policy. It refuses what the simulator does not validate and would evaluate differently from AWS.
// Cases of one run share a few policies: each is validated once.
const policies = new Map() // :: text of the policy → validated policy
function policyOf(policy) {
  check(isObject(policy), 'policy is not an object')
  const text = JSON.stringify(policy)
  const known = policies.get(text)
  if (known) return known
  // Older versions have no variables; the simulator substitutes them in any version.
  check(policy.Version === '2012-10-17', 'policy is not of Version 2012-10-17')
  const validated = createValidatedPolicy(policy, validateSessionPolicy)
  check(validated.errors.length === 0, `policy is invalid: ${JSON.stringify(validated.errors)}`)
  for (const statement of asList(policy.Statement)) checkOperators(statement.Condition ?? {})
  if (policies.size >= maxPolicies) policies.clear()
  policies.set(text, validated)
  return validated
}

function checkOperators(condition) {
  for (const operator of Object.keys(condition)) {
    const base = operator.toLowerCase().replace(/^for(anyvalue|allvalues):/, '').replace(/ifexists$/, '')
    check(operators.has(base), `condition operator "${operator}" is unknown`)
  }
}

// contextOf gives the context with each value in the form that its key's type has, and refuses keys that are in no database of AWS.
async function contextOf(input) {
  const context = {}
  const seen = new Set()
  for (const [key, value] of Object.entries(input.context)) {
    const lower = key.toLowerCase()
    check(!seen.has(lower), `context key "${key}" occurs twice`)
    seen.add(lower)
    const type = await typeOf(lower)
    check(type !== undefined, `context key "${key}" is unknown`)
    const values = asList(value)
    for (const single of values) checkValue(key, single, type)
    if (isConditionKeyArray(type)) {
      context[key] = values
      continue
    }
    check(!Array.isArray(value), `context key "${key}" takes a single value`)
    check(value !== '' || !usesVariable(input, lower), `context key "${key}" is empty and a variable: the simulator leaves it unresolved`)
    context[key] = value
  }
  return context
}

function checkValue(key, value, type) {
  check(typeof value === 'string', `context key "${key}" is not a string`)
  check(!lineTerminator.test(value), `context key "${key}" has a line terminator, which the simulator matches by no wildcard`)
  check(!type.endsWith('IPAddress') || isIP(value) !== 0, `context key "${key}" is not an IP address`)
}

const types = new Map() // :: lower-case key → type, or undefined for an unknown key
async function typeOf(key) {
  if (!types.has(key)) types.set(key, await typeForContextKey(key).catch(() => undefined))
  return types.get(key)
}

function usesVariable(input, key) {
  return JSON.stringify([input.identityPolicies, input.sessionPolicy]).toLowerCase().includes('${' + key)
}

// simulationOf gives the simulator's form of a case. A KMS key listens to IAM policies only if its key policy says so:
// a key gets the policy that KMS gives every key by default (KMS Developer Guide, "Default key policy").
function simulationOf(input, context) {
  const isKey = /^arn:[^:]*:kms:[^:]*:\d{12}:key\//.test(input.resource)
  const partition = input.resource.split(':')[1]
  return {
    request: {
      principal: input.principal,
      action: input.action,
      resource: { resource: input.resource, accountId: input.resourceAccount },
      contextVariables: context,
    },
    identityPolicies: input.identityPolicies.map((policy, i) => ({ name: `identity-${i}`, policy: policyOf(policy) })),
    sessionPolicy: input.sessionPolicy === null ? undefined : policyOf(input.sessionPolicy),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: isKey ? defaultKeyPolicy(partition, input.resourceAccount) : undefined,
  }
}

function defaultKeyPolicy(partition, account) {
  const principal = { AWS: `arn:${partition}:iam::${account}:root` }
  const statement = { Effect: 'Allow', Principal: principal, Action: 'kms:*', Resource: '*' }
  const policy = { Version: '2012-10-17', Statement: [statement] }
  return createValidatedPolicy(policy, validateResourcePolicy, { name: 'default key policy' })
}

// evaluate answers one case. Context keys that the action does not have are named in "ignored": AWS does not send them either.
async function evaluate(input) {
  checkCase(input)
  const simulation = simulationOf(input, await contextOf(input))
  const answer = await runSimulation(simulation, { simulationMode: 'Strict' })
  if (answer.resultType === 'error') throw new Error(`simulator: ${describe(answer.errors)}`)
  check(answer.resultType === 'single', `simulator: resource of ${input.action} read as a pattern`)
  const dropped = answer.result.ignoredContextKeys
  const lost = dropped.length > 0 ? await wronglyDropped(input, dropped) : []
  const ignored = dropped.filter((key) => !lost.includes(key))
  const result = lost.length > 0 ? evaluateUnfiltered(simulation, ignored) : answer.overallResult
  check(verdicts.has(result), `shouldn't happen: verdict ${JSON.stringify(result)}`)
  return ignored.length > 0 ? { id: input.id, result, ignored } : { id: input.id, result }
}

// wronglyDropped gives the keys that match a template of the action such as kms:EncryptionContext:${EncryptionContextKey}:
// the simulator knows templates only by a slash and drops keys of the others.
async function wronglyDropped(input, dropped) {
  const [service, action] = input.action.split(':')
  const allowed = await allowedContextKeysForRequest(service, action, input.resource, false, undefined)
  const heads = allowed.filter((key) => key.includes(':${')).map((key) => key.slice(0, key.indexOf('${')))
  return dropped.filter((key) => heads.some((head) => key.toLowerCase().startsWith(head)))
}

// evaluateUnfiltered asks the simulator's other entry, which drops no keys but knows no session policy: once with the role's policies
// and once with the session policy in their place. Both must allow, and a Deny in either counts.
function evaluateUnfiltered(simulation, ignored) {
  const kept = Object.entries(simulation.request.contextVariables).filter(([key]) => !ignored.includes(key))
  const request = { ...simulation.request, contextVariables: Object.fromEntries(kept) }
  const verdict = (identityPolicies) => runUnsafeSimulation({ ...simulation, request, sessionPolicy: undefined, identityPolicies }, {})
  const results = [verdict(simulation.identityPolicies)]
  if (simulation.sessionPolicy) results.push(verdict([{ name: 'session', policy: simulation.sessionPolicy }]))
  for (const result of results) check(verdicts.has(result), `shouldn't happen: verdict ${JSON.stringify(result)}`)
  if (results.includes('ExplicitlyDenied')) return 'ExplicitlyDenied'
  return results.every((result) => result === 'Allowed') ? 'Allowed' : 'ImplicitlyDenied'
}

function describe(errors) {
  const { message, ...details } = errors
  return Object.keys(details).length > 0 ? `${message} ${JSON.stringify(details)}` : message
}

async function answerLine(bytes, number) {
  let id = ''
  try {
    const input = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
    if (typeof input?.id === 'string') id = input.id
    return await evaluate(input)
  } catch (error) {
    return { id, error: `line ${number}: ${error.message || error}` }
  }
}

// lines splits at U+000A alone: node:readline also splits at U+2028 and U+2029, which JSON strings may hold.
async function* lines(stream) {
  let rest = Buffer.alloc(0)
  for await (const chunk of stream) {
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    let start = 0
    for (let end; (end = rest.indexOf(10, start)) !== -1; start = end + 1) yield rest.subarray(start, end)
    rest = rest.subarray(start)
    check(rest.length <= maxLine, `line longer than ${maxLine} bytes`)
  }
  if (rest.length > 0) yield rest
}

async function main() {
  let number = 0
  for await (const bytes of lines(process.stdin)) {
    const line = JSON.stringify(await answerLine(bytes, ++number)) + '\n'
    if (!process.stdout.write(line)) await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
}

await main()
