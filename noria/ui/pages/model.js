// @ts-check
/** One model: its aliases, its versions, how its numbers moved, and when which version was in production. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Command, Empty, Show } from '../components/empty.js';
import { Aliases, Tags } from '../components/chips.js';
import { Curve } from '../components/curve.js';
import { Production } from '../components/production.js';
import { ChampionAt } from '../components/champion-at.js';
import { AliasesTable } from '../components/aliases-table.js';
import { Promote } from '../components/promote.js';
import { Num, RefLink, Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc } from '../lib/api.js';
import { bytes, direction, plural } from '../lib/format.js';
import { histories } from '../lib/evaluations.js';

/** @param {any} props */
export default function ModelPage({ params, query, setQuery }) {
  const { model: name } = params;
  const page = useResource(`/models/${enc(name)}`, { kinds: ['model.', 'model_version.'] });
  const timeline = useResource(`/models/${enc(name)}/timeline`, { kinds: ['model_version.'] });
  const [promote, setPromote] = useState(/** @type {{number: number, alias?: string} | null} */ (null));
  const m = page.data?.model, versions = page.data?.versions ?? [];
  useCommands(m ? [{ id: 'actions', title: 'Promote the latest version', icon: 'crown', keys: '.', group: 'Model', run: () => setPromote({ number: m.latest }) }] : []);
  const history = histories(versions);
  const metricNames = Object.keys(history.metrics);
  return html`<${Page} crumbs=${[['Models', '/models'], [name]]} loading=${page.loading} actions=${m?.latest && html`<a class="button" href=${`/lineage/${enc(`model:${name}`)}`}><${Icon} name="waypoints" />Lineage</a><${Deed} may="model.promote" on=${`model:${m.name}`} class="button" onClick=${() => setPromote({ number: m.latest })}><${Icon} name="crown" />Promote…<//>`}>
    <${Show} of=${page}>${() => html`
      <div class="story"><h2>${name}<${Aliases} of=${m.aliases.map((/** @type {any} */ a) => `${a.name} → ${a.version}`)} /></h2>
        <p>${m.description || html`${plural(m.versions_count, 'version')}${m.latest ? html`, the latest is <a href=${`/models/${enc(name)}/${m.latest}`}>@${m.latest}</a>` : ''}. Made by <b><${Who} of=${m.actor} /></b> <${Time} at=${m.created_at_ms} />.`}</p><${Tags} of=${m.tags} /></div>
      ${m.aliases.length > 0 && html`<${Block} title="Aliases"><${AliasesTable} model=${name} aliases=${m.aliases} onMove=${(/** @type {string} */ alias) => setPromote({ number: m.latest, alias })} onDone=${() => { page.reload(); timeline.reload(); }} /><//>`}
      ${timeline.data?.items?.length > 0 && html`<${Block} title="Which version had which name, when"><div class="stack"><${Production} moves=${timeline.data.items} model=${name} /><${ChampionAt} model=${name} query=${query} setQuery=${setQuery} />
        <details><summary class="quiet">Every move: ${timeline.data.items.length}</summary><${Table} label="Moves of aliases" rows=${timeline.data.items} rowKey=${(/** @type {any} */ x) => `${x.alias}${x.generation}`} columns=${[{ key: 'at', label: 'When', cell: (x) => html`<${Time} at=${x.at_ms} absolute />`, sort: (x) => x.at_ms }, { key: 'a', label: 'Alias', cell: (x) => x.alias, sort: (x) => x.alias }, { key: 'f', label: 'From', num: true, cell: (x) => (x.was ? `@${x.was}` : '–') }, { key: 't', label: 'To', num: true, cell: (x) => (x.version ? html`<a href=${`/models/${enc(name)}/${x.version}`}>@${x.version}</a>` : 'nothing') }, { key: 'by', label: 'By', cell: (x) => html`<${Who} of=${x.actor} />` }, { key: 'why', label: 'Reason', prose: true, cell: (x) => x.reason || html`<span class="muted">none was given</span>` }]} /></details></div><//>`}
      <${Block} title="Versions" count=${m.versions_count}>${versions.length === 0 ? html`<${Empty} icon="box" title="No versions yet." command=${`mlflow.register_model("runs:/<run id>/model", "${name}")`} />`
        : html`<${Table} keys label="Versions" rows=${versions} rowKey=${(/** @type {any} */ v) => v.number} href=${(/** @type {any} */ v) => `/models/${enc(name)}/${v.number}`} columns=${[
          { key: 'n', label: 'Version', cell: (v) => `@${v.number}`, sort: (v) => v.number }, { key: 'a', label: 'Aliases', cell: (v) => html`<${Aliases} of=${v.aliases} />` },
          { key: 'run', label: 'Run', cell: (v) => (v.run_id ? html`<${RefLink} to=${`run:${v.run_id}`} />` : html`<span class="muted">–</span>`) },
          ...metricNames.slice(0, 4).map((k) => ({ key: k, label: k, num: true, sort: (/** @type {any} */ v) => metricOf(v, history, k), cell: (/** @type {any} */ v) => html`<${Num} value=${metricOf(v, history, k)} />` })),
          { key: 'f', label: 'Flavours', cell: (v) => Object.keys(v.flavors ?? {}).filter((f) => f !== 'python_function').join(', ') || Object.keys(v.flavors ?? {}).join(', ') },
          { key: 's', label: 'Size', num: true, cell: (v) => bytes(v.size_bytes), sort: (v) => v.size_bytes },
          { key: 'at', label: 'Registered', cell: (v) => html`<${Time} at=${v.created_at_ms} />`, sort: (v) => v.created_at_ms }, { key: 'by', label: 'By', cell: (v) => html`<${Who} of=${v.actor} />` }, { key: 'p', label: '', cell: (v) => html`<${Deed} may="model.promote" on=${`model:${m.name}`} class="button plain small" onClick=${() => setPromote({ number: v.number })}>Promote…<//>` }]} />`}<//>
      ${metricNames.length > 0 && versions.length > 1 && html`<${Block} title="Numbers by version" actions=${html`<span class="muted">on ${history.split} of <${RefLink} to=${`dataset_version:${history.dataset_version}`} /></span>`}><div class="charts">${metricNames.slice(0, 9).map((k) => html`<${Curve} key=${k} title=${k} height=${150} points whole lines=${[{ id: k, name, colour: 'var(--accent)', x: history.metrics[k].x, y: history.metrics[k].y }]} better=${direction(k)} />`)}</div><//>`}
      <${Block} title="Use it"><div class="halves"><${Command} text=${`import mlflow\nmodel = mlflow.pyfunc.load_model("models:/${name}@champion")`} /><${Command} text=${`noria endpoint deploy ${name}@champion --name ${name}`} /></div><//>`}<//>
    ${promote !== null && m && html`<${Promote} model=${name} number=${promote.number} alias=${promote.alias} aliases=${m.aliases} versions=${versions} onClose=${() => setPromote(null)} onDone=${() => { page.reload(); timeline.reload(); }} />`}
  <//>`;
}

/** @param {any} v @param {any} history @param {string} key */
function metricOf(v, history, key) { return (v.evaluations ?? []).find((/** @type {any} */ e) => e.dataset_version === history.dataset_version && e.split === history.split)?.metrics[key]; }
