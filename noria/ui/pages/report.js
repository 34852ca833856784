// @ts-check
/** One report: read, written, its versions, who it is shared with, printed. What one looks at is in the address. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page } from '../components/page.js';
import { Deed } from '../components/deed.js';
import { Dialog } from '../components/dialog.js';
import { Show } from '../components/empty.js';
import { Menu } from '../components/menu.js';
import { ReportDocument, usePrinting } from '../components/report-document.js';
import { ReportEditor } from '../components/report-editor.js';
import { ReportShare } from '../components/report-share.js';
import { ReportVersions } from '../components/report-versions.js';
import { Talk } from '../components/talk.js';
import { Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, remove, withQuery } from '../lib/api.js';
import { interestOf } from '../lib/reports.js';

/** @param {any} props */
export default function ReportPage({ params, query, setQuery, go }) {
  const id = params.report, version = query.get('version'), editing = query.get('edit') === '1' && !version, side = query.get('side');
  const at = `/reports/${enc(id)}`;
  const report = useResource(withQuery(at, { version }), { kinds: ['report.'], subjects: [`report:${id}`] });
  const [removing, setRemoving] = useState(false);
  const r = report.data;
  usePrinting(query.get('print') === '1' && Boolean(r), () => setQuery({ print: null }));
  const usePanel = (/** @type {any} */ block) => useResource(withQuery(`${at}/panels/${enc(block.id)}`, { version: r.version }), interestOf(block));
  const edit = () => { if (r?.may_write) setQuery({ edit: '1', side: null, version: null }, { push: true }); };
  const print = () => setQuery({ print: '1', side: null });
  const open = (/** @type {string} */ which) => setQuery({ side: side === which ? null : which });
  useCommands(r && !editing ? [
    { id: 'actions', title: 'Edit this report', icon: 'file-text', keys: '.', group: 'Report', run: edit }, { id: 'report.print', title: 'Print, or save as PDF', icon: 'download', group: 'Report', run: print },
    { id: 'report.versions', title: 'Versions of this report', icon: 'history', group: 'Report', run: () => open('versions') }, { id: 'report.share', title: 'Share this report', icon: 'link', group: 'Report', run: () => open('share') },
  ] : []);
  if (editing && r) return html`<${ReportEditor} key=${id} report=${r} onLeave=${() => setQuery({ edit: null })} onSaved=${() => { report.reload(); setQuery({ edit: null }); }} />`;
  const on = `report:${id}`;
  return html`<${Page} crumbs=${[['Reports', '/reports'], [r?.title ?? '…']]} title=${r?.title} loading=${report.loading}
      actions=${r && html`<button type="button" class="button" aria-pressed=${side === 'versions' ? 'true' : 'false'} onClick=${() => open('versions')}><${Icon} name="history" />Version ${r.version}</button>
        <${Deed} may="report.share" on=${on} class="button" aria-pressed=${side === 'share' ? 'true' : 'false'} onClick=${() => open('share')}><${Icon} name="link" />Share<//>
        <${Menu} label=${html`<${Icon} name="ellipsis" />`} title="More" class="button icon-only">${(/** @type {() => void} */ close) => html`<button type="button" onClick=${() => { close(); print(); }}><${Icon} name="download" small />Print, or save as PDF</button><${Deed} may="report.delete" on=${on} class="bad" onClick=${() => { close(); setRemoving(true); }}><${Icon} name="trash-2" small />Delete…<//>`}<//>
        <${Deed} may="report.write" on=${on} class="button primary" onClick=${edit}>Edit<//>`}>
    ${r && r.version !== r.latest && html`<div class="notice info"><${Icon} name="history" /><span>This is version ${r.version}, saved <${Time} at=${r.saved_at_ms} />. <a href=${`/reports/${enc(id)}`}>The latest is ${r.latest}.</a> Its panels show how things are now.</span></div>`}
    <${Show} of=${report}>${() => html`<${ReportDocument} key=${`${id}${r.version}`} report=${r} usePanel=${usePanel} byline=${html`Version ${r.version}, saved by <${Who} of=${r.saved_by} /> <${Time} at=${r.saved_at_ms} />; begun by <${Who} of=${r.created_by} /> <${Time} at=${r.created_at_ms} />.`} />`}<//>
    ${r && html`<${Talk} about=${`report:${id}`} />`}
    ${r && side === 'versions' && html`<${ReportVersions} report=${r} onClose=${() => setQuery({ side: null })} go=${go} reload=${report.reload} />`}
    ${r && side === 'share' && r.may_share && html`<${ReportShare} report=${r} onClose=${() => setQuery({ side: null })} />`}
    ${removing && html`<${Dialog} title=${`Delete ${r.title}?`} deed="Delete the report" danger done="The report is gone" onClose=${() => setRemoving(false)} act=${async () => { await remove(at); go('/reports'); }}><p class="quiet">Its ${r.latest} ${r.latest === 1 ? 'version' : 'versions'} and every link to it go too. What its panels show is not touched.</p><//>`}
  <//>`;
}
