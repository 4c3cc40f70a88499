// check.mjs DOCUMENT FRAMES: whether the document is AsyncAPI, and whether each line of FRAMES is a message that it describes, with
// no field that it does not. Every message of the document has to occur. Never forgives a warning.
import { readFileSync } from 'node:fs';
import { DiagnosticSeverity, Parser } from '@asyncapi/parser';
import Ajv from 'ajv';
import formats from 'ajv-formats';

const [text, lines] = process.argv.slice(2).map((file) => readFileSync(file, 'utf8'));
const { document, diagnostics } = await new Parser().parse(text);
const faults = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
for (const { message, path } of faults) console.error(`${path.join('/')}: ${message}`);
if (!document || faults.length > 0) process.exit(1);

const schemas = JSON.parse(text).components.schemas;
// A field that is sent and not described is a fault of the document, though clients would ignore it.
for (const schema of Object.values(schemas)) if (schema.properties) schema.additionalProperties = false;
const ajv = new Ajv({ strictTypes: false, allErrors: true });
formats(ajv);
ajv.addKeyword('components');
ajv.addSchema({ $id: 'document', components: { schemas } }, 'document');
const missing = new Set(document.allMessages().all().map((message) => message.name()));
for (const line of lines.split('\n').filter((line) => line)) {
  const { type } = JSON.parse(line);
  const valid = ajv.getSchema(`document#/components/schemas/${type}`);
  if (!valid?.(JSON.parse(line))) {
    console.error(line, ajv.errorsText(valid?.errors));
    process.exitCode = 1;
  }
  missing.delete(type);
}
if (missing.size > 0) {
  console.error(`no such frame was seen: ${[...missing].join(', ')}`);
  process.exitCode = 1;
}
