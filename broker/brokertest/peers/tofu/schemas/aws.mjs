// Prints the schemas of what aws.txt names, in the form of `tofu providers
// schema -json`, read from the npm package @cdktf/provider-aws: its classes are
// generated from the schema of Terraform's AWS provider, and their TypeScript, in
// the source maps, says of every attribute whether it is computed, optional or
// required.
//
//   npm pack @cdktf/provider-aws@21.22.1 && tar xzf cdktf-provider-aws-21.22.1.tgz
//   node aws.mjs package >aws.json
//
// Attributes that are objects and that only the cloud writes are left out, and so
// are timeouts.
import {readFileSync} from 'node:fs'
import {join} from 'node:path'

const [root] = process.argv.slice(2)
const lines = readFileSync(new URL('aws.txt', import.meta.url), 'utf8').split('\n').filter((l) => l && !l.startsWith('#'))
const types = {
  string: 'string', number: 'number', boolean: 'bool', stringList: 'string', numberList: 'number', stringMap: 'string', booleanMap: 'bool', numberMap: 'number',
}
function source(name) {
  const folder = name.replace(/^data\.aws_/, 'data-aws-').replace(/^aws_/, '').replaceAll('_', '-')
  const file = readFileSync(join(root, 'lib', folder, 'index.js'), 'utf8')
  return JSON.parse(Buffer.from(file.match(/sourceMappingURL=data:application\/json;base64,(\S+)/)[1], 'base64')).sourcesContent[0]
}

// between returns the text from a line up to the next that closes at its depth.
function between(text, from, to) {
  const begin = text.indexOf(from)
  if (begin < 0) throw new Error(`no ${from}`)
  return text.slice(begin, text.indexOf(to, begin))
}

// written reads what a resource or block writes: attribute → how.
function written(text) {
  const all = {}
  for (const m of text.matchAll(/^ +(\w+): \{\n +value: (.*),\n +isBlock: (\w+),\n +type: "(\w+)",\n +storageClassType: "(\w+)",$/gm)) {
    all[m[1]] = {many: m[2].includes('listMapper'), block: m[3] === 'true', type: m[4], of: m[5]}
  }
  return all
}

// read is the schema of a class, and of the blocks in it.
function read(text, cls, attributes, leave) {
  const body = between(text, `export class ${cls} extends`, '\n}\n')
  const attrs = {}, blocks = {}
  for (const part of body.split(/^  \/\/ (?=\w+ - computed: )/m).slice(1)) {
    const [, name, computed, optional, required] = part.match(/^(\w+) - computed: (\w+), optional: (\w+), required: (\w+)/)
    const w = attributes[name]
    const flags = Object.fromEntries(Object.entries({computed, optional, required}).filter(([, v]) => v === 'true').map(([k]) => [k, true]))
    if (name === 'timeouts' || leave.includes(name)) continue
    if (w?.block) {
      const inner = w.of.replace(/List$/, '')
      const fn = inner[0].toLowerCase() + inner.slice(1) + 'ToHclTerraform'
      blocks[name] = {
        nesting_mode: w.type === 'set' ? 'set' : 'list', ...(required === 'true' && {min_items: 1}), ...(!w.many && {max_items: 1}),
        block: read(text, inner + 'OutputReference', written(between(text, `export function ${fn}(`, '\n}\n')), leave),
      }
      continue
    }
    const getter = part.match(/get(String|Number|Boolean|List|NumberList|StringMap|BooleanMap|NumberMap)Attribute/)?.[1]
    let type = {String: 'string', Number: 'number', Boolean: 'bool', List: ['list', 'string'], NumberList: ['list', 'number'], StringMap: ['map', 'string'], BooleanMap: ['map', 'bool'], NumberMap: ['map', 'number']}[getter]
    if (w && w.type !== 'simple' && types[w.of]) type = [w.type, types[w.of]]
    else if (part.includes('Fn.tolist(this.getListAttribute')) type = ['set', 'string']
    if (!type) {
      if (computed === 'true' && optional !== 'true') continue
      throw new Error(`${cls}.${name}: what type? ${JSON.stringify(w)}`)
    }
    attrs[name] = {type, ...flags}
  }
  return {attributes: attrs, ...(Object.keys(blocks).length && {block_types: blocks})}
}

const resources = {}, data = {}
for (const line of lines) {
  const [name, ...leave] = line.split(/ -?/)
  const isData = name.startsWith('data.')
  const text = source(name)
  const cls = text.match(/^export class (\w+) extends cdktf\.Terraform(Resource|DataSource)/m)[1]
  const body = between(text, `export class ${cls} extends`, '\n}\n')
  const schema = {version: 0, block: read(text, cls, written(body.slice(body.indexOf('synthesizeHclAttributes'))), leave)}
  ;(isData ? data : resources)[isData ? name.slice(5) : name] = schema
}

// Of the provider itself only what deploy/terraform sets.
const provider = {
  version: 0,
  block: {
    attributes: {region: {type: 'string', optional: true}},
    block_types: {default_tags: {nesting_mode: 'list', max_items: 1, block: {attributes: {tags: {type: ['map', 'string'], optional: true}}}}},
  },
}
// One line for each resource: small, and a change can be read.
const list = (m) => '{\n' + Object.entries(m).map(([k, v]) => `    ${JSON.stringify(k)}: ${JSON.stringify(v)}`).join(',\n') + '\n  }'
console.log(`{\n  "provider": ${JSON.stringify(provider)},\n  "resource_schemas": ${list(resources)},\n  "data_source_schemas": ${list(data)}\n}`)
