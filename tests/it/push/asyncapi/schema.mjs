// schema.mjs SCHEMA CASES: whether each of CASES is right or wrong by the JSON Schema as it says. A schema that is none fails.
import { readFileSync } from 'node:fs';
import Ajv from 'ajv';

const [schema, cases] = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, 'utf8')));
const valid = new Ajv({ strictTypes: false, allErrors: true }).compile(schema);
for (const { text, file, right } of cases) {
  if (valid(file) !== right) {
    console.error(`${right ? 'refused' : 'taken'}: ${JSON.stringify(valid.errors)}\n${text}`);
    process.exitCode = 1;
  }
}
