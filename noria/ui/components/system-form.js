// @ts-check
/** What is said of a system, as a form. */

import { html } from './html.js';
import { Dialog, Field } from './dialog.js';
import { api, enc } from '../lib/api.js';

const RISKS = ['unclassified', 'minimal', 'limited', 'high', 'prohibited'], ANSWERS = ['unknown', 'no', 'yes'];

/** @param {{system: any, people: any[], things: string[], onClose: () => void, onSaved: (name: string) => void}} props `system` null: a new one */
export function SystemForm({ system, people, things, onClose, onSaved }) {
  const spec = system?.spec ?? {};
  const save = async (/** @type {FormData} */ f) => {
    const name = system?.name ?? String(f.get('name')), text = (/** @type {string} */ key) => String(f.get(key) ?? '').trim();
    const body = { ...spec, title: text('title'), owner: text('owner'), purpose: text('purpose'), users: text('users'), risk: text('risk'), risk_reason: text('risk_reason'), personal_data: text('personal_data'), health_data: text('health_data'), sector: text('sector'), members: text('members').split(/[\s,]+/).filter(Boolean), approvals: Number(text('approvals')) || 1 };
    await api(`/systems/${enc(name)}`, { method: 'PUT', body });
    onSaved(name);
  };
  const pick = (/** @type {string} */ value, /** @type {string[]} */ options) => [value, ...options.filter((o) => o !== value)];
  return html`<${Dialog} title=${system ? `Describe ${spec.title || system.name}` : 'Register a system'} deed=${system ? 'Save' : 'Register'} done=${system ? 'Saved' : 'Registered'} onClose=${onClose} act=${save}>
    ${!system && html`<${Field} label="Name" name="name" required placeholder="flight-delays" hint="What it is called in commands; it stays." />`}
    <${Field} label="Title" name="title" defaultValue=${spec.title} />
    <${Field} as="textarea" label="Intended purpose" name="purpose" rows="2" defaultValue=${spec.purpose} />
    <${Field} label="Who uses it, and on whom" name="users" defaultValue=${spec.users} />
    <div class="halves"><${Field} label="Owner" name="owner" list="owners" defaultValue=${spec.owner} /><datalist id="owners">${people.map((p) => html`<option value=${p.name} />`)}</datalist><${Field} label="Sector" name="sector" defaultValue=${spec.sector} placeholder="finance, health, transport" /></div>
    <div class="halves"><${Field} as="select" label="Risk class" name="risk" options=${pick(spec.risk ?? 'unclassified', RISKS)} /><${Field} label="Why this class" name="risk_reason" defaultValue=${spec.risk_reason} /></div>
    <div class="halves"><${Field} as="select" label="Personal data" name="personal_data" options=${pick(spec.personal_data ?? 'unknown', ANSWERS)} /><${Field} as="select" label="Health data" name="health_data" options=${pick(spec.health_data ?? 'unknown', ANSWERS)} /></div>
    <div class="halves"><${Field} label="Members" name="members" defaultValue=${(spec.members ?? []).join(' ')} placeholder=${things.slice(0, 2).join(' ') || 'model:name endpoint:name'} hint="Models and endpoints that belong to it." /><${Field} label="Approvals a deployment needs" name="approvals" type="number" min="1" max="10" defaultValue=${spec.approvals ?? 1} /></div><//>`;
}
