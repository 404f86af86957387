import { html as escaped } from 'hono/html';
import { redact } from '../../base/redact.ts';
import { oneLine } from '../../report/format.ts';

/** A piece of a page. */
export type Html = ReturnType<typeof escaped>;

/** Control characters, and characters that change the direction of writing: they could hide or reorder text. */
const HIDDEN = /(?![\t\n])[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Makes a piece of a page from a template. Every value is escaped, so a name never becomes markup. Secrets are hidden
 * before that, because an escaped secret looks different. Pieces and lists of pieces stay as they are.
 */
export function html(strings: TemplateStringsArray, ...values: unknown[]): Html {
  return escaped(strings, ...values.map(clean));
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return redact(value).replace(HIDDEN, '�');
  return Array.isArray(value) ? value.map(clean) : value;
}

/** The colour class of a state. Words always accompany it. */
export type Tone = 'ok' | 'warn' | 'bad';

/** Renders a sentence. Parts in backticks become code, line breaks and control characters become harmless. */
export function prose(text: string): Html {
  const parts = oneLine(text).split('`');
  // An odd number of backticks is no code.
  if (parts.length % 2 === 0) return html`${oneLine(text)}`;
  return html`${parts.map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : part))}`;
}

/** Renders a command of the agent, as a person types it on the host. */
export function command(text: string): Html {
  return html`<code class="cmd">docker compose exec lifeboat lifeboat ${text}</code>`;
}

/** Renders a time with its full date for people who point at it. */
export function time(iso: string, text: string): Html {
  return html`<time datetime="${iso}" title="${iso}">${text}</time>`;
}

/** Joins names in words: `a`, `a and b`, `a, b and 3 others`. */
export function joinNames(names: readonly string[], most = 3): string {
  const shown = names.length > most ? names.slice(0, most - 1) : names;
  const all = shown.map(oneLine);
  if (names.length > most) all.push(`${names.length - shown.length} others`);
  const last = all.pop() ?? '';
  return all.length === 0 ? last : `${all.join(', ')} and ${last}`;
}

/** Begins a sentence with an upper-case letter. */
export function sentence(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
