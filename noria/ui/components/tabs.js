// @ts-check
import { html } from './html.js';
import { useName } from './use.js';

/** @param {{tabs: {id: string, label: string, count?: any, body: () => any}[], value: string, onChange: (id: string) => void, label: string}} props */
export function Tabs({ tabs, value, onChange, label }) {
  const name = useName('tab');
  const current = tabs.find((t) => t.id === value) ?? tabs[0];
  /** @param {any} e */
  const move = (e) => {
    const step = e.key === 'ArrowRight' ? 1 : e.key === 'ArrowLeft' ? -1 : 0;
    if (!step) return;
    const next = tabs[(tabs.indexOf(current) + step + tabs.length) % tabs.length];
    onChange(next.id);
    e.currentTarget.querySelector(`[data-tab="${next.id}"]`)?.focus();
  };
  return html`<div class="stack"><div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>${tabs.map((t) => html`
      <button key=${t.id} type="button" role="tab" id=${`${name}-${t.id}`} data-tab=${t.id} aria-selected=${t === current ? 'true' : 'false'} aria-controls=${`${name}-panel`} tabindex=${t === current ? 0 : -1} onClick=${() => onChange(t.id)}>
        ${t.label}${t.count !== undefined && t.count !== null && html`<span class="n">${t.count}</span>`}</button>`)}</div>
    <div role="tabpanel" id=${`${name}-panel`} aria-labelledby=${`${name}-${current.id}`}>${current.body()}</div></div>`;
}
