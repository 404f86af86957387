import { isAbsolute, join, relative } from 'node:path';

/** Writes the directories of the packages that the bundle holds, a line each: the image carries their licences. */
const listPackages = {
  name: 'list-packages',
  generateBundle(_options, bundle) {
    const modules = Object.values(bundle)
      .flatMap((file) => file.moduleIds ?? [])
      .filter(isAbsolute);
    const directories = modules.flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id) ?? []);
    const lines = [...new Set(directories)].map((directory) => relative(import.meta.dirname, directory));
    this.emitFile({ type: 'asset', fileName: 'packages.txt', source: `${lines.sort().join('\n')}\n` });
  },
};

/** The modules that each module imports statically. */
const imports = new Map();

const readImports = {
  name: 'read-imports',
  moduleParsed({ id, importedIds }) {
    imports.set(id, importedIds);
  },
};

/** docker-modem loads TLS at its start: 50 ms of processor time, which no command needs that talks to a socket. */
const loadTlsLater = {
  name: 'load-tls-later',
  transform(code, id) {
    if (!id.endsWith('/docker-modem/lib/http.js')) return null;
    const later = code.replace(
      "nativeHttps = require('https')",
      'nativeHttps = { request: (...given) => require("https").request(...given) }',
    );
    if (later === code) this.error(`${id} has changed`);
    return { code: later, map: null };
  },
};

const closures = new Map();

/** Returns the modules, and all that they import statically. */
function closureOf(files) {
  const known = closures.get(files);
  if (known) return known;
  const found = new Set();
  closures.set(files, found);
  const visit = (id) => {
    if (found.has(id) || !imports.has(id)) return;
    found.add(id);
    for (const each of imports.get(id)) visit(each);
  };
  for (const file of files) visit(join(import.meta.dirname, 'src', file));
  return found;
}

/** Threads and processes that load less than a command. */
const WORKERS = [
  'destinations/hash-worker.ts',
  'store/chunks/cut-worker.ts',
  'store/filesystem/read-worker.ts',
  'store/sqlite/sqlite-program.ts',
];

const COMMAND = ['cli.ts'];
const APP = ['app/app.ts'];
/** What stores and extracts the tree of a volume. It needs its memory for the files. */
const TREE = ['app/settings.ts', 'app/destinations.ts', 'trees/job.ts'];

const isEntry = (id) => [...WORKERS, 'cli.ts'].some((file) => id === join(import.meta.dirname, 'src', file));

/**
 * Modules that are always loaded together share a file, because each file takes half a millisecond of processor time at
 * each start. In the order of precedence: modules of an earlier group are in no later one.
 */
const groups = [
  ['base', (is) => is(WORKERS)],
  ['command', (is) => is(COMMAND)],
  ['common', (is) => is(TREE) && is(APP)],
  ['tree', (is) => is(TREE)],
  ['app', (is) => is(APP)],
].map(([name, test], i) => ({
  name,
  priority: 10 - i,
  test: (id) => !isEntry(id) && test((roots) => closureOf(roots).has(id)),
}));

/**
 * The program and its modules in a few files: a command starts in half the time of 900 small ones, and what is not used
 * stays out of the image. Names and lines are left as they are: a stack trace is to be read by people.
 */
export default {
  input: {
    cli: 'src/cli.ts',
    // Threads are started by file name, beside whatever chunk starts them.
    'cut-worker': 'src/store/chunks/cut-worker.ts',
    'hash-worker': 'src/destinations/hash-worker.ts',
    'read-worker': 'src/store/filesystem/read-worker.ts',
    'sqlite-program': 'src/store/sqlite/sqlite-program.ts',
  },
  platform: 'node',
  // What dockerode loads for engines behind SSH, for builds, and for archives to send: megabytes that no command needs.
  resolve: {
    alias: {
      ssh2: false,
      '@grpc/grpc-js': false,
      '@grpc/proto-loader': false,
      protobufjs: false,
      'tar-fs': false,
      '@balena/dockerignore': false,
    },
  },
  plugins: [listPackages, readImports, loadTlsLater],
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
    cleanDir: true,
    codeSplitting: { groups },
  },
};
