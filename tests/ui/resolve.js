// Lets Node read the interface's bare imports from the vendored files, as the browser does through the import map.
import { register } from 'node:module';

register(`data:text/javascript,${encodeURIComponent(`
  import { readFileSync } from 'node:fs';
  const vendor = new URL('../../noria/ui/vendor/', ${JSON.stringify(import.meta.url)});
  const map = new Map(JSON.parse(readFileSync(new URL('VENDOR.json', vendor), 'utf8')).packages.filter((p) => p.import).map((p) => [p.import, new URL(p.file, vendor).href]));
  export async function resolve(name, context, next) { const url = map.get(name); return url ? { url, format: 'module', shortCircuit: true } : next(name, context); }
`)}`);
