import { isAbsolute, relative } from 'node:path';

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

/**
 * The program and its modules in a few files: a command starts in half the time of 900 small ones, and what is not used
 * stays out of the image. Names and lines are left as they are: a stack trace is to be read by people.
 */
export default {
  input: {
    cli: 'src/cli.ts',
    // Threads are started by file name, beside whatever chunk starts them.
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
  plugins: [listPackages],
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
    cleanDir: true,
  },
};
