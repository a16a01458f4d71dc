// Runs the package's scripts against recording applications: a line of JSON in, a line out.
//
// In:  { world, script, argv, fail?, drop? } one run of a script; drop: the world is not used again
//      { world, fill: { mails, notes } }     the start of a world
// Out: { output, calls, unknown } or { done }
//
// `fail` breaks a call: { call: "push Note", number: -1712, acted: true } throws after the call
// had its effect. Names that no application has end up in `unknown`.

const fs = require("fs");
const readline = require("readline");
const vm = require("vm");

const EMPTY = vm.createContext({}); // a script sees the language and its four names, nothing else
const worlds = new Map();
const compiled = new Map();

// Which properties and element lists each class has, as the applications' dictionaries name them.
const CLASSES = {
  MailApp: { lists: { outgoingMessages: "OutgoingMessage" }, props: ["inbox", "version"] },
  Mailbox: { lists: { messages: "Message" }, props: [] },
  Message: { lists: {}, props: ["id", "sender", "subject", "content", "dateReceived"] },
  OutgoingMessage: {
    lists: { toRecipients: "ToRecipient", ccRecipients: "CcRecipient", attachments: "Attachment" },
    props: ["id", "subject", "content", "visible"],
  },
  ToRecipient: { lists: {}, props: ["address"] },
  CcRecipient: { lists: {}, props: ["address"] },
  Attachment: { lists: {}, props: ["fileName"] },
  NotesApp: { lists: { folders: "Folder", notes: "Note" }, props: ["defaultAccount", "version"] },
  Account: { lists: { folders: "Folder" }, props: ["defaultFolder"] },
  Folder: { lists: { notes: "Note" }, props: ["name"] },
  Note: { lists: {}, props: ["id", "name", "body", "plaintext", "creationDate"] },
  MessagesApp: { lists: { accounts: "MessageAccount" }, props: ["version"] },
  MessageAccount: { lists: { participants: "Participant" }, props: ["enabled"] },
  Participant: { lists: {}, props: ["handle"] },
  FinderApp: { lists: {}, props: ["version"] },
  Current: { lists: {}, props: ["includeStandardAdditions"] },
};
const COMMANDS = {
  MailApp: ["reply", "selection"],
  NotesApp: ["delete"],
  MessagesApp: ["send"],
  FinderApp: ["open"],
  Current: ["openLocation"],
};
const MAKES = {
  MailApp: ["OutgoingMessage", "ToRecipient", "CcRecipient", "Attachment"],
  NotesApp: ["Note", "Folder"],
};

function item(kind, values = {}) {
  const made = { kind, values: { ...values }, lists: {} };
  for (const name of Object.keys(CLASSES[kind].lists)) made.lists[name] = [];
  return made;
}

function newWorld() {
  const world = { calls: [], unknown: [], next: 1, fail: null };
  const inbox = item("Mailbox");
  world.mail = item("MailApp", { inbox, version: "16.0" });
  world.inbox = inbox;
  world.selected = [];
  const folder = item("Folder", { name: "Notes" });
  world.account = item("Account", { defaultFolder: folder });
  world.notes = item("NotesApp", { defaultAccount: world.account, version: "4.11" });
  world.account.lists.folders = [folder];
  world.notes.lists.folders = world.account.lists.folders;
  Object.defineProperty(world.notes.lists, "notes", {
    get: () => world.account.lists.folders.flatMap((place) => place.lists.notes),
  });
  world.messages = item("MessagesApp", { version: "14.0" });
  const account = item("MessageAccount", { enabled: true });
  account.lists.participants = ["+12125550101", "+12125550102"].map((handle) =>
    item("Participant", { handle })
  );
  world.messages.lists.accounts = [account];
  world.finder = item("FinderApp", { version: "15.0" });
  world.current = item("Current");
  return world;
}

function fill(world, given) {
  for (const mail of given.mails || []) {
    const values = { ...mail, dateReceived: new Date(mail.received * 1000) };
    delete values.received;
    world.inbox.lists.messages.push(item("Message", values));
  }
  for (const note of given.notes || []) {
    let folder = world.account.lists.folders.find((one) => one.values.name === note.folder);
    if (folder === undefined) {
      folder = item("Folder", { name: note.folder });
      world.account.lists.folders.push(folder);
    }
    folder.lists.notes.push(newNote(world, `<div><h1>${escaped(note.name)}</h1></div>` +
      note.body.split("\n").map((line) => `<div>${escaped(line) || "<br>"}</div>`).join("")));
  }
}

function newNote(world, body) {
  const note = item("Note", { id: `x-coredata://store/ICNote/p${world.next++}`, body });
  note.values.creationDate = new Date();
  return note;
}

const escaped = (text) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// What Notes makes of a note's HTML: a line per block.
function plain(body) {
  return body
    .replace(/<div><br><\/div>/g, "\n")
    .replace(/<\/div>/g, "\n")
    .replace(/<[^>]*>/g, "")
    .replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&quot;/g, '"').replace(/&#x27;/g, "'")
    .replace(/&amp;/g, "&")
    .replace(/\n$/, "");
}

function raise(message, number) {
  const error = new Error(message);
  error.errorNumber = number;
  throw error;
}

// A call is noted, then has its effect; a fault strikes before it or after it.
function call(world, name, args, effect) {
  const fault = world.fail;
  const strikes = fault !== null && fault.call === name;
  if (strikes && !fault.acted) raise("refused", fault.number);
  world.calls.push([name, args]);
  const result = effect();
  if (strikes) raise("lost", fault.number);
  return result;
}

function read(world, thing, name) {
  if (thing.kind === "Note" && name === "plaintext") return plain(thing.values.body);
  if (thing.kind === "Note" && name === "name") return plain(thing.values.body).split("\n")[0];
  return thing.values[name];
}

function shown(given) {
  const value = raw(given);
  if (value && value.kind !== undefined) return shownItem(value);
  if (value instanceof Date) return value.getTime();
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, shown(part)]));
}

function shownItem(thing) {
  const values = {};
  for (const [name, value] of Object.entries(thing.values)) values[name] = shown(value);
  return { [thing.kind]: values };
}

const RAW = Symbol("raw");
const raw = (value) => (value && value[RAW]) || value;

function specifier(world, thing) {
  const type = CLASSES[thing.kind];
  return new Proxy(function () {}, {
    get(_, name) {
      if (name === RAW) return thing;
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      if (type.lists[name] !== undefined) return elements(world, thing, name);
      if (type.props.includes(name)) return property(world, thing, name);
      if ((MAKES[thing.kind] || []).includes(name)) {
        return (values) => specifier(world, item(name, values));
      }
      if ((COMMANDS[thing.kind] || []).includes(name)) {
        return (...args) => command(world, thing, name, args.map(raw));
      }
      world.unknown.push(`${thing.kind}.${String(name)}`);
      return raise("unknown name", -1728);
    },
    set(_, name, value) {
      if (!type.props.includes(name)) world.unknown.push(`${thing.kind}.${String(name)}=`);
      call(world, `set ${thing.kind}.${name}`, shown(raw(value)), () => {
        thing.values[name] = raw(value);
      });
      return true;
    },
    apply() {
      return specifier(world, thing);
    },
  });
}

function property(world, thing, name) {
  const value = read(world, thing, name);
  if (value && value.kind !== undefined) return specifier(world, value);
  return () => (world.fail && world.fail.call === `get ${thing.kind}.${name}`
    ? raise("refused", world.fail.number) : value);
}

function elements(world, owner, name, filter = () => true) {
  const kind = CLASSES[owner.kind].lists[name];
  const list = () => {
    if (world.fail && world.fail.call === `list ${owner.kind}.${name}`) {
      raise("refused", world.fail.number);
    }
    return owner.lists[name].filter(filter);
  };
  return new Proxy(function () {}, {
    get(_, key) {
      if (typeof key === "symbol") return undefined;
      if (key === "length") return list().length;
      if (/^\d+$/.test(key)) return specifier(world, list()[Number(key)]);
      if (key === "whose") {
        return (wanted) => elements(world, owner, name, (one) =>
          Object.entries(wanted).every(([prop, value]) => read(world, one, prop) === value));
      }
      if (key === "push") return (made) => push(world, owner, name, raw(made));
      if (CLASSES[kind].props.includes(key)) return () => list().map((one) => read(world, one, key));
      world.unknown.push(`${owner.kind}.${name}.${key}`);
      return raise("unknown name", -1728);
    },
    apply() {
      return list().map((one) => specifier(world, one));
    },
  });
}

function push(world, owner, name, made) {
  call(world, `push ${made.kind}`, shownItem(made)[made.kind], () => {
    if (made.kind === "Note") Object.assign(made.values, newNote(world, made.values.body).values);
    if (made.kind === "OutgoingMessage") made.values.id = world.next++;
    owner.lists[name].push(made);
  });
}

function command(world, thing, name, args) {
  if (name === "selection") return world.selected.map((one) => specifier(world, one));
  return call(world, name, args.map(shown), () => {
    if (name === "reply") {
      const draft = item("OutgoingMessage", {
        id: world.next++, subject: `Re: ${args[0].values.subject}`, content: "",
      });
      draft.lists.toRecipients.push(item("ToRecipient", { address: args[0].values.sender }));
      thing.lists.outgoingMessages.push(draft);
      return specifier(world, draft);
    }
    if (name === "delete") {
      for (const folder of world.account.lists.folders) {
        folder.lists.notes = folder.lists.notes.filter((note) => note !== args[0]);
      }
    }
    return undefined;
  });
}

function globals(world) {
  const apps = { Mail: "mail", Notes: "notes", Messages: "messages", Finder: "finder" };
  const application = (name) => {
    if (apps[name] === undefined) world.unknown.push(`Application(${name})`);
    return specifier(world, world[apps[name]]);
  };
  application.currentApplication = () => specifier(world, world.current);
  return {
    Application: application,
    Path: (path) => ({ path }),
    ObjC: { import: () => undefined, unwrap: (text) => text },
    $: {
      NSString: {
        stringWithContentsOfFileEncodingError: (path) => fs.readFileSync(path, "utf8"),
      },
    },
  };
}

function runScript(request) {
  const world = worlds.get(request.world);
  world.calls = [];
  world.fail = request.fail || null;
  if (!compiled.has(request.script)) {
    const source = fs.readFileSync(request.script, "utf8");
    const wrapped = `(function (Application, Path, ObjC, $) {${source}\nreturn run;})`;
    compiled.set(
      request.script,
      new vm.Script(wrapped, { filename: request.script }).runInContext(EMPTY)
    );
  }
  const known = globals(world);
  const run = compiled.get(request.script)(known.Application, known.Path, known.ObjC, known.$);
  const output = run(request.argv);
  if (request.drop) worlds.delete(request.world);
  return { output, calls: world.calls, unknown: world.unknown };
}

function answer(request) {
  if (!worlds.has(request.world)) worlds.set(request.world, newWorld());
  if (request.fill !== undefined) {
    fill(worlds.get(request.world), request.fill);
    return { done: true };
  }
  return runScript(request);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + "\n");
});
