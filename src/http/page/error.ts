import { type Html, html, prose, sentence } from './text.ts';

/** Renders what went wrong with a request. */
export function errorBody(text: string): Html {
  return html`<div class="verdict bad"><h1>${prose(sentence(text))}</h1><p><a href="/">Back to the overview</a></p></div>`;
}
