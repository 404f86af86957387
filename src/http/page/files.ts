import type { DirectoryPage } from '../../overview/browse.ts';
import { formatBytes, oneLine, plural } from '../../report/format.ts';
import { displayPath, type TreePath } from '../../store/filesystem/path.ts';
import { command, type Html, html } from './text.ts';

/** A directory of a source in a snapshot. */
interface FilesInput extends DirectoryPage {
  snapshot: string;
  source: string;
  directory: TreePath;
  /** number of names on earlier pages */
  after: number;
}

/** The number of names on a page. */
export const FILES_PER_PAGE = 500;

/** A path in a query: names need not be text, so it is the base64url of its bytes. */
function encodeDirectory(path: TreePath): string {
  return Buffer.from(path, 'latin1').toString('base64url');
}

/** The inverse of {@link encodeDirectory}. */
export function decodeDirectory(text: string): TreePath {
  return Buffer.from(text, 'base64url').toString('latin1');
}

/** Renders a directory of a snapshot. */
export function filesBody(input: FilesInput): Html {
  const { snapshot, source, directory, children, total, after } = input;
  const link = (path: TreePath, text: Html | string) => html`<a href="${address(snapshot, source, path)}">${text}</a>`;
  const parts = directory === '' ? [] : directory.split('/');
  const crumbs = [
    link('', oneLine(source)),
    ...parts.map((part, i) => html` / ${link(parts.slice(0, i + 1).join('/'), nameOf(part))}`),
  ];
  const rows = children.map(({ name, type, bytes, files, mtime }) => {
    const path = directory === '' ? name : `${directory}/${name}`;
    const isDirectory = type === 'directory';
    const shown = isDirectory ? link(path, `${nameOf(name)}/`) : nameOf(name);
    const what = isDirectory ? plural(files, 'file') : type === 'file' ? '' : type;
    return html`<tr><td>${shown}</td><td class="soft w0">${what}</td><td class="r num w0">${isDirectory || type === 'file' ? formatBytes(bytes) : ''}</td><td class="hide num w0">${dateOf(mtime)}</td></tr>`;
  });
  const last = after + children.length;
  const range = total > children.length ? `, ${after + 1} to ${last} shown` : '';
  const next =
    last < total
      ? html`<a href="${address(snapshot, source, directory)}&amp;after=${last}">next ${Math.min(FILES_PER_PAGE, total - last)}</a>`
      : '';
  const back =
    after > 0
      ? html`<a href="${address(snapshot, source, directory)}&amp;after=${Math.max(0, after - FILES_PER_PAGE)}">previous</a> `
      : '';
  const typed = /^[\w.-]+$/.test(source) && /^[\w./-]*$/.test(directory);
  const restore = typed
    ? command(`restore ${snapshot} ${source} --path '${directory === '' ? '' : `${directory}/`}**'`)
    : '';
  return html`<h1 class="path">${crumbs}</h1><p class="soft">${plural(total, 'name')} in the snapshot <a href="/snapshots/${snapshot}">${snapshot}</a>${range}</p>
<section class="card"><table><thead><tr><th scope="col">name</th><th scope="col">what</th><th scope="col" class="r">size</th><th scope="col" class="hide">changed (UTC)</th></tr></thead><tbody>${rows}</tbody></table><p>${back}${next}</p></section>
${restore === '' ? '' : html`<p class="soft">To bring these files back:</p>${restore}`}`;
}

function address(snapshot: string, source: string, directory: TreePath): string {
  const at = directory === '' ? '' : `&directory=${encodeDirectory(directory)}`;
  return `/snapshots/${snapshot}/files?source=${encodeURIComponent(source.toWellFormed())}${at}`;
}

function nameOf(name: TreePath): string {
  return oneLine(displayPath(name)) || '?';
}

function dateOf(nanoseconds: bigint): string {
  const ms = Number(nanoseconds / 1_000_000n);
  return Number.isFinite(ms) && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString().slice(0, 16).replace('T', ' ') : '';
}
