// @ts-check
/** MLflow's filter language, read in the browser so that a mistake is shown while one types: the same grammar as the server's, which
 *  has the last word. `metrics.loss < 0.3 and params.model = 'forest' and attributes.status in ('FAILED')`. Pure. */

/** @typedef {{entity: string, key: string, op: string, value: string | number | (string | number)[] | null, from: number, to: number}} Condition */
/** @typedef {{type: string, text: string, at: number}} Token */

const TOKEN = /\s+|(?<double>"(?:[^"\\]|\\.)*")|(?<string>'(?:[^'\\]|\\.|'')*')|(?<quoted>`[^`]+`)|(?<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z_]))|(?<name>[A-Za-z_][A-Za-z0-9_\-/]*)|(?<op>!=|<=|>=|<>|==|=|<|>)|(?<mark>[.(),])/y;
const WORDS = new Set(['and', 'not', 'like', 'ilike', 'in', 'between', 'is', 'null']);
export const ENTITIES = /** @type {Record<string, string>} */ ({ '': 'attributes', attribute: 'attributes', attributes: 'attributes', attr: 'attributes', run: 'attributes', metric: 'metrics', metrics: 'metrics', param: 'params', params: 'params', parameter: 'params', parameters: 'params', tag: 'tags', tags: 'tags', dataset: 'datasets', datasets: 'datasets' });

/** @param {string} text @returns {{conditions: Condition[], error: {message: string, at: number} | null}} */
export function parse(text) {
  if (!text.trim()) return { conditions: [], error: null };
  /** @type {Token[]} */ const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex, match = TOKEN.exec(text);
    if (!match) return fail(/['"`]/.test(text[at]) ? 'This quote is not closed.' : `${text[at]} means nothing here.`, at);
    const found = Object.entries(match.groups ?? {}).find(([, v]) => v !== undefined);
    if (found) tokens.push({ type: found[0] === 'name' && WORDS.has(found[1].toLowerCase()) ? found[1].toLowerCase() : found[0], text: found[1], at });
  }
  let i = 0;
  const end = { type: 'end', text: '', at: text.length };
  const peek = () => tokens[i] ?? end, take = () => tokens[i++] ?? end;
  /** @type {Condition[]} */ const conditions = [];
  for (;;) {
    const start = peek();
    const parts = [];
    for (;;) {
      const t = take();
      // A word of the language may still be a key: params.in, metrics.like.
      if (!['name', 'quoted', 'double', 'number'].includes(t.type) && !(parts.length && WORDS.has(t.type))) return fail(t.type === 'end' ? 'A condition is missing here.' : 'A name such as metrics.loss belongs here.', t.at);
      parts.push(t.type === 'quoted' || t.type === 'double' ? unquote(t.text) : t.text);
      if (peek().text !== '.') break;
      take();
    }
    const entity = parts.length > 1 ? ENTITIES[parts[0].toLowerCase()] : 'attributes';
    if (!entity) return fail(`${parts[0]} is not metrics, params, tags, attributes or datasets.`, start.at);
    const key = parts.length > 1 ? parts.slice(1).join('.') : parts[0];
    const ends = () => (tokens[i - 1] ?? end).at + (tokens[i - 1] ?? end).text.length;
    /** @param {string} op @param {Condition['value']} value */
    const push = (op, value) => conditions.push({ entity, key, op, value, from: start.at, to: ends() });
    const t = take();
    if (t.type === 'op') {
      const v = take();
      if (!isValue(v)) return fail("A value is missing: a number, or text in 'quotes'.", v.at);
      const value = valueOf(v);
      if (entity === 'metrics' && typeof value === 'string') return fail('A metric is compared with a number.', v.at);
      if ((entity === 'params' || entity === 'tags') && typeof value === 'number') return fail(`A ${entity.slice(0, -1)} is text: write '${v.text}' in quotes.`, v.at);
      push(t.text === '==' ? '=' : t.text === '<>' ? '!=' : t.text, value);
    } else if (t.type === 'is') {
      const not = peek().type === 'not' && take();
      if (take().type !== 'null') return fail('is null, or is not null.', (tokens[i - 1] ?? end).at);
      push(not ? 'is not null' : 'is null', null);
    } else if (t.type === 'between') {
      const low = take(), and = take(), high = take();
      if (!isValue(low) || and.type !== 'and' || !isValue(high)) return fail('between 1 and 2.', low.at);
      push('>=', valueOf(low)); push('<=', valueOf(high));
    } else {
      const not = t.type === 'not' ? 'not ' : '', word = not ? take() : t;
      if (word.type === 'like' || word.type === 'ilike') {
        const v = take();
        if (v.type !== 'string') return fail("A pattern in 'quotes' belongs here: % stands for any letters.", v.at);
        push(`${not}${word.type}`, valueOf(v));
      } else if (word.type === 'in') {
        if (take().text !== '(') return fail("in ('a', 'b').", (tokens[i - 1] ?? end).at);
        const values = [];
        for (;;) {
          const v = take();
          if (!isValue(v)) return fail("in ('a', 'b').", v.at);
          values.push(/** @type {string | number} */ (valueOf(v)));
          const next = take();
          if (next.text === ')') break;
          if (next.text !== ',') return fail('A comma or a closing bracket belongs here.', next.at);
        }
        push(`${not}in`, values);
      } else return fail('A comparison is missing: = != < <= > >= like ilike in between, or is null.', t.at);
    }
    if (peek().type === 'end') return { conditions, error: null };
    const and = take();
    if (and.type !== 'and') return fail("Only 'and' joins conditions.", and.at);
  }
}

/** @param {string} message @param {number} at */
function fail(message, at) { return { conditions: [], error: { message, at } }; }
/** @param {Token} t */
function isValue(t) { return ['number', 'string', 'double'].includes(t.type); }
/** @param {Token} t */
function valueOf(t) { return t.type === 'number' ? Number(t.text) : unquote(t.text); }
/** @param {string} s */
function unquote(s) {
  const inner = s.slice(1, -1);
  return (s[0] === "'" ? inner.replaceAll("''", "'") : inner).replace(/\\(['"\\])/g, '$1');
}

/** One condition as text. @param {{entity: string, key: string, op: string, value?: Condition['value']}} c */
export function format({ entity, key, op, value }) {
  const name = `${entity}.${/^[A-Za-z_][A-Za-z0-9_\-/]*$/.test(key) && !WORDS.has(key.toLowerCase()) ? key : `\`${key.replaceAll('`', '')}\``}`;
  if (op.endsWith('null')) return `${name} ${op}`;
  const word = (/** @type {any} */ v) => (typeof v === 'number' ? String(v) : `'${String(v).replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`);
  return `${name} ${op} ${Array.isArray(value) ? `(${value.map(word).join(', ')})` : word(value)}`;
}

/** The filter with one more condition. @param {string} text @param {Parameters<typeof format>[0]} condition */
export function add(text, condition) { return text.trim() ? `${text.trim()} and ${format(condition)}` : format(condition); }

/** The filter without the condition at this place. @param {string} text @param {number} index */
export function without(text, index) { return parse(text).conditions.filter((_, i) => i !== index).map(format).join(' and '); }

/** The columns a filter names. @param {string} text */
export function columnsOf(text) { return parse(text).conditions.filter((c) => ['metrics', 'params', 'tags'].includes(c.entity)).map((c) => `${c.entity}.${c.key}`); }
