import { buildPlan, type PlanInput } from '../../src/plan/job.ts';
import type { ContainerFacts, Mount, Plan, PlannedSource } from '../../src/plan/model.ts';
import { formatKeep } from '../../src/plan/retention.ts';
import { parseSettings } from '../../src/plan/settings.ts';

/**
 * Reads the compact form of test/golden/labels: the input, a line of dashes, and the expected plan.
 *
 *     # comment
 *     set LIFEBOAT_SCOPE all          a setting; `project NAME` names the agent's project (shop if not given)
 *     config                          something is mounted under /config
 *     known web.media                 sources that are backed up already
 *     agent volume shop_backups:/backups
 *     container shop-db-1 [service=NAME] [project=NAME] [image=NAME] [stopped]
 *       lifeboat.postgres = true      a label; a value that starts with " is JSON
 *       image lifeboat.postgres = true
 *       env POSTGRES_USER = app
 *       command postgres -p 5433      the command line, split at blanks
 *       volume shop_media:/app/media  or `bind /srv/x:/data`, `tmpfs /tmp`; with `:ro` at the end, read-only;
 *                                     `file` is a bind of a single file; `key=NAME` is its key under `volumes:`
 */
export const SEPARATOR = '----------';

interface Facts {
  settings: Record<string, string>;
  project: string;
  configFiles: boolean;
  known: string[];
  agentMounts: Mount[];
  containers: ContainerFacts[];
}

function unquote(value: string): string {
  return value.startsWith('"') ? (JSON.parse(value) as string) : value;
}

function assignment(text: string): [key: string, value: string] {
  const [, key, value] = /^(\S+)\s*=\s*(.*)$/.exec(text) ?? [];
  if (key === undefined) throw new Error(`golden file: not understood: ${text}`);
  return [unquote(key), unquote(value!)];
}

function mount(kind: string, text: string): Mount {
  if (kind === 'tmpfs') return { type: 'tmpfs', source: '', destination: text, writable: true };
  const [, where = '', named] = /^(.*?)(?: key=(\S+))?$/s.exec(text) ?? [];
  const [from, destination, mode] = where.split(':') as [string, string, string?];
  const writable = mode !== 'ro';
  const base = { destination, writable };
  if (kind === 'file') return { type: 'bind', source: from, ...base, kind };
  if (kind === 'bind') return { type: 'bind', source: from, ...base };
  const key = named === undefined ? {} : { key: named };
  return { type: 'volume', name: from, source: `/var/lib/docker/volumes/${from}/_data`, ...base, ...key };
}

function container(text: string, project: string): ContainerFacts {
  const [name, ...words] = text.split(/\s+/);
  const options = new Map(words.map((word) => [word.split('=')[0]!, word.slice(word.indexOf('=') + 1)]));
  return {
    id: options.get('id') ?? `id-of-${name}`,
    name: name!,
    project: options.get('project') ?? project,
    service: options.get('service') ?? /^[^-]+-(.+)-\d+$/.exec(name!)?.[1] ?? name!,
    imageId: `sha256:${options.get('image') ?? 'image'}`,
    running: !options.has('stopped'),
    labels: {},
    imageLabels: {},
    env: {},
    mounts: [],
  };
}

function readDetail(into: ContainerFacts, line: string): void {
  const [, word, rest] = /^(image|env|volume|bind|file|tmpfs|command|network|pid) (.*)$/.exec(line) ?? [];
  if (word === 'volume' || word === 'bind' || word === 'file' || word === 'tmpfs') into.mounts.push(mount(word, rest!));
  else if (word === 'network') into.networkMode = rest!;
  else if (word === 'pid') into.pidMode = rest!;
  else if (word === 'command') into.command = rest!.split(' ');
  else if (word === 'env') Object.assign(into.env, Object.fromEntries([assignment(rest!)]));
  else if (word === 'image') {
    // A container has the labels of its image, unless it sets its own values.
    const [key, value] = assignment(rest!);
    into.imageLabels[key] = value;
    into.labels[key] ??= value;
  } else {
    const [key, value] = assignment(line);
    into.labels[key] = value;
  }
}

function readFacts(text: string): Facts {
  const facts: Facts = {
    settings: {},
    project: 'shop',
    configFiles: false,
    known: [],
    agentMounts: [],
    containers: [],
  };
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const [, word, rest] = /^(\S+) ?(.*)$/.exec(trimmed)!;
    if (line.startsWith(' ')) readDetail(facts.containers.at(-1)!, trimmed);
    else if (word === 'project') facts.project = rest!;
    else if (word === 'config') facts.configFiles = true;
    else if (word === 'known') facts.known = rest!.split(' ');
    else if (word === 'set') facts.settings[rest!.split(' ')[0]!] = rest!.slice(rest!.indexOf(' ') + 1);
    else if (word === 'agent') facts.agentMounts.push(mount(rest!.split(' ')[0]!, rest!.split(' ')[1]!));
    else if (word === 'container') facts.containers.push(container(rest!, facts.project));
    else throw new Error(`golden file: not understood: ${line}`);
  }
  return facts;
}

/** Builds the plan for the first half of a golden file, as the text of its second half. */
export function planText(input: string): string {
  const { settings, ...facts } = readFacts(input);
  const readFile = () => {
    throw new Error('golden files have no secret files');
  };
  const given: PlanInput = { ...facts, agentId: 'id-of-shop-lifeboat-1', settings: parseSettings(settings, readFile) };
  return formatPlan(buildPlan(given), given);
}

function formatPlan(plan: Plan, { settings }: PlanInput): string {
  const lines = plan.sources.flatMap((source) => [
    `${source.name}: ${source.kind}${source.containerName === '' ? '' : ` of ${source.containerName}`}`,
    ...details(source, settings).map((line) => `  ${line}`),
  ]);
  for (const { severity, code, subject, message, hint } of plan.problems) {
    lines.push(`${severity} ${code} ${subject}: ${message}`);
    if (hint !== undefined) lines.push(`  hint: ${hint}`);
  }
  for (const { containerName, pre, post, restored, health, dependsOn = [] } of plan.hooks ?? []) {
    const asked = health && 'url' in health ? { argv: [health.url] } : health;
    const commands = [pre, post, restored, asked].flatMap((hook) => hook?.argv.join(' ') ?? []);
    lines.push(`commands of ${containerName} around ${dependsOn.join(', ')}: ${commands.join('; ')}`);
  }
  for (const { subject, message } of plan.notes ?? []) lines.push(`note ${subject}: ${message}`);
  for (const [name, by] of Object.entries(plan.shared ?? {})) lines.push(`shared ${name} is ${by}`);
  return lines.join('\n');
}

/** Lists the properties of a source that are not the default. */
function details(source: PlannedSource, settings: PlanInput['settings']): string[] {
  const lines: string[] = [];
  const list = (name: string, values: readonly string[] | undefined) => {
    if (values !== undefined && values.length > 0)
      lines.push(`${name} ${values.map((v) => JSON.stringify(v)).join(' ')}`);
  };
  if (source.kind === 'postgres') {
    const { user, database, port, password, userFile, passwordFile, databaseFile } = source;
    lines.push(`connect ${JSON.stringify(user)} to ${JSON.stringify(database)} port ${port}`);
    const files = { password, userFile, passwordFile, databaseFile };
    for (const [name, value] of Object.entries(files)) if (value !== undefined) lines.push(`${name} ${value}`);
    list('databases', source.databases);
    list('exclude databases', source.excludeDatabases);
    list('exclude table data', source.excludeTableData);
    for (const { name, sql } of source.drill?.asserts ?? []) lines.push(`assert ${JSON.stringify(name)}: ${sql}`);
    if (source.drill?.database !== undefined) lines.push(`asserts in ${JSON.stringify(source.drill.database)}`);
  }
  if (source.kind === 'volume') {
    lines.push(`${source.mount.type} ${source.mount.name ?? source.mount.source} at ${source.mount.destination}`);
    list('include', source.include);
    list('exclude', source.exclude);
    list(
      'stop',
      source.stop.map(({ name }) => name),
    );
  }
  if (source.kind === 'files') {
    lines.push(`root ${source.root}`);
    list('exclude', source.exclude);
  }
  if (source.schedule !== settings.schedule) lines.push(`schedule ${source.schedule}`);
  const keep = formatKeep(source.keep);
  if (keep !== formatKeep(settings.keep)) lines.push(`keep ${keep}`);
  for (const key of ['rpoMs', 'rtoMs'] as const)
    if (source[key] !== undefined) lines.push(`${key.slice(0, 3)} ${source[key] / 1000}s`);
  list('pre', source.pre?.argv);
  list('post', source.post?.argv);
  list('restored', source.restored?.argv);
  if (source.health)
    lines.push(`health ${JSON.stringify('url' in source.health ? source.health.url : source.health.argv)}`);
  const user = (source.pre ?? source.post ?? source.restored)?.user;
  if (user !== undefined) lines.push(`hooks as ${user}`);
  return lines;
}
