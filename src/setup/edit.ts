import { isDeepStrictEqual } from 'node:util';
import { isAlias, isMap, isSeq, type Node, type Pair, type YAMLMap } from 'yaml';
import { isRecord } from './compose-files.ts';
import {
  columnOf,
  type Edited,
  entryOf,
  insert,
  insertBelow,
  isEmptyScalar,
  readYaml,
  startOf,
  stepOf,
} from './insert-text.ts';

/**
 * Adds text to a Compose file, and leaves every other byte as it is: comments, anchors, quotes, and the order of keys.
 * Each change is checked: the changed file must mean what it meant before, plus the addition.
 */

type Data = Record<string, unknown>;

type Labels = Readonly<Record<string, string>>;

/**
 * Adds labels to services. Returns the new text, or undefined if the labels of one of them must be added by hand, for
 * example because the service itself is an alias.
 */
export function addLabels(text: string, all: ReadonlyMap<string, Labels>): string | undefined {
  const expected = (data: Data) =>
    [...all].reduce<Data | undefined>((sum, [service, labels]) => sum && expectLabels(sum, service, labels), data);
  return checked(text, expected, (file) => {
    // From the last service to the first: a change leaves the places before it as they are.
    const ordered = [...all].toSorted(([a], [b]) => placeOf(file, b) - placeOf(file, a));
    let changed: string | undefined = file.text;
    for (const [service, labels] of ordered) {
      changed = changed === undefined ? undefined : addTo({ ...file, text: changed }, service, labels);
    }
    return changed;
  });
}

function serviceIn({ document }: Edited, service: string): Pair | undefined {
  return entryOf(entryOf(document.contents, 'services')?.value, service);
}

function placeOf(file: Edited, service: string): number {
  return startOf(serviceIn(file, service));
}

function addTo(file: Edited, service: string, labels: Labels): string | undefined {
  const node = serviceIn(file, service)?.value;
  if (!isMap(node)) return undefined;
  const entry = entryOf(node, 'labels');
  const value = entry?.value;
  if (entry === undefined || value === null || value === undefined || isEmptyScalar(value)) {
    return addNewLabels(file, { service, node, labelsEntry: entry }, labels);
  }
  if (isAlias(value)) return replaceAlias(file, entry, value, labels);
  if (isMap(value)) return insert(file, value, pairLines(labels));
  return isSeq(value) ? insert(file, value, itemLines(labels)) : undefined;
}

/**
 * Adds a service and a named volume. `lines` are those of the service, indented by two spaces a level. Returns the new
 * text, or undefined if they must be added by hand.
 */
export function addService(
  text: string,
  name: string,
  { lines, volume }: { lines: readonly string[]; volume: string },
): string | undefined {
  const definition = readYaml(lines.join('\n')).data;
  const withService = checked(
    text,
    (data) => (isRecord(data.services) ? { ...data, services: { ...data.services, [name]: definition } } : undefined),
    (file) => {
      const services = entryOf(file.document.contents, 'services')?.value;
      if (!isMap(services) || services.flow || services.items.length === 0) return undefined;
      const step = stepOf(file, services);
      return insert(file, services, ['', `${name}:`, ...lines.map((line) => (line === '' ? '' : `  ${line}`))], step);
    },
  );
  return withService === undefined ? undefined : addVolume(withService, volume);
}

function addVolume(text: string, volume: string): string | undefined {
  const expected = (data: Data) => {
    const volumes = isRecord(data.volumes) ? data.volumes : {};
    const value = isRecord(data.volumes) && isFlow(text) ? {} : null;
    return { ...data, volumes: { ...volumes, [volume]: value } };
  };
  return checked(text, expected, (file) => {
    const entry = entryOf(file.document.contents, 'volumes');
    const value = entry?.value;
    if (entry === undefined) {
      const end = file.text === '' || file.text.endsWith('\n') ? '' : file.eol;
      return `${file.text}${end}${[``, 'volumes:', `  ${volume}:`, ''].join(file.eol)}`;
    }
    if (isMap(value) && value.flow) return insert(file, value, [`${volume}: {}`]);
    if (isMap(value)) return insert(file, value, [`${volume}:`]);
    return isEmptyScalar(value) ? insertBelow(file, entry, [`  ${volume}:`]) : undefined;
  });
}

function isFlow(text: string): boolean {
  const value = entryOf(readYaml(text).document.contents, 'volumes')?.value;
  return isMap(value) && value.flow === true;
}

/** Makes a change, and returns it only if the changed file means what `expected` makes of the present meaning. */
function checked(
  text: string,
  expected: (data: Data) => Data | undefined,
  change: (file: Edited) => string | undefined,
): string | undefined {
  const { document, data: before } = readYaml(text);
  if (!isRecord(before)) return undefined;
  const wanted = expected(before);
  const changed = change({ text, document, data: before, eol: /\r\n/.test(text) ? '\r\n' : '\n' });
  if (wanted === undefined || changed === undefined) return undefined;
  const after = readYaml(changed);
  if (after.document.errors.length > 0) return undefined;
  return isDeepStrictEqual(after.data, wanted) ? changed : undefined;
}

function expectLabels(data: Data, service: string, labels: Labels): Data | undefined {
  const { services } = data;
  const body = isRecord(services) ? services[service] : undefined;
  if (!isRecord(services) || !isRecord(body)) return undefined;
  const present = body.labels;
  const all = Array.isArray(present)
    ? [...(present as unknown[]), ...Object.entries(labels).map(([key, value]) => `${key}=${value}`)]
    : { ...(isRecord(present) ? present : {}), ...labels };
  return { ...data, services: { ...services, [service]: { ...body, labels: all } } };
}

interface Place {
  service: string;
  node: YAMLMap;
  /** `labels:` without a value */
  labelsEntry: Pair | undefined;
}

/** Adds `labels:`. Labels that a merge (`<<`) brings would be lost, so they are repeated. */
function addNewLabels(file: Edited, { service, node, labelsEntry }: Place, labels: Labels): string | undefined {
  const { data } = file;
  const services = isRecord(data) && isRecord(data.services) ? data.services[service] : undefined;
  const inherited = isRecord(services) ? services.labels : undefined;
  if (labelsEntry && node.flow) return undefined;
  if (node.flow) {
    const pairs = Object.entries({ ...(isRecord(inherited) ? inherited : {}), ...labels });
    const content = pairs.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(', ');
    return Array.isArray(inherited) ? undefined : insert(file, node, [`labels: { ${content} }`]);
  }
  const lines = Array.isArray(inherited)
    ? [...inherited.map((one) => `- ${JSON.stringify(one)}`), ...itemLines(labels)]
    : pairLines({ ...(isRecord(inherited) ? inherited : {}), ...labels });
  const step = ' '.repeat(2);
  if (labelsEntry)
    return insertBelow(
      file,
      labelsEntry,
      lines.map((line) => step + line),
    );
  return insert(file, node, ['labels:', ...lines.map((line) => step + line)]);
}

/** `labels: *common` becomes a mapping that merges the alias. */
function replaceAlias(file: Edited, entry: Pair, alias: Node, labels: Labels): string | undefined {
  const range = alias.range;
  const target = isAlias(alias) ? alias.resolve(file.document) : undefined;
  if (!range || !isMap(target)) return undefined;
  const indent = ' '.repeat(columnOf(file.text, startOf(entry)) + 2);
  const lines = [`<<: ${file.text.slice(range[0], range[1])}`, ...pairLines(labels)];
  const block = lines.map((line) => file.eol + indent + line).join('');
  return `${file.text.slice(0, range[0]).replace(/[ \t]+$/, '')}${block}${file.text.slice(range[1])}`;
}

function pairLines(labels: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(labels).map(([key, value]) => `${plainKey(key)}: ${JSON.stringify(value)}`);
}

function itemLines(labels: Labels): string[] {
  return Object.entries(labels).map(([key, value]) => `- ${key}=${value}`);
}

function plainKey(key: string): string {
  return /^[A-Za-z][\w./-]*$/.test(key) ? key : JSON.stringify(key);
}
