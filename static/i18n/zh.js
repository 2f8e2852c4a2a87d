// 简体中文。键与 en.js 相同，由类型检查保证。

import * as format from '../i18n.js';

/** @type {typeof import('./en.js').default['failure']} */
function failure(cause, detail) {
  switch (cause) {
    case 'network':
      return '服务器没有响应。';
    case 'unauthorized':
      return '打开此邮箱需要令牌。';
    case 'missing':
      return '内容不存在，或已被删除。';
    case 'conflict':
      return '该地址已存在。';
    case 'invalid':
      return detail ? `服务器拒绝了请求：${detail}` : '服务器拒绝了请求。';
    case 'failed':
      return '服务器出错了，详情请查看服务器日志。';
  }
}

/** @type {typeof import('./en.js').default} */
export default {
  // 导航
  allMail: '全部邮件',
  mailboxes: '邮箱',
  messages: '邮件',
  back: '返回',
  close: '关闭',
  cancel: '取消',
  moreMailboxes: (count) => (count ? `还有 ${format.number(count)} 个，输入文字查找。` : '还有更多邮箱，请直接搜索邮件。'),
  filterMailboxes: '查找邮箱',

  // 地址
  newAddress: '新建地址',
  addressLabel: '地址',
  addressHint: '按回车使用建议的名称，也可以自己输入。',
  domain: '域名',
  lifetime: '保留',
  lifetimes: { '1h': '1 小时', '24h': '1 天', '7d': '7 天', never: '永久' },
  create: '创建',
  copy: '复制',
  copied: '已复制',
  copyAddress: '复制地址',
  addressCopied: (address) => `已复制 ${address}。`,
  expires: (when) => `${when}过期`,
  neverExpires: '永久保留',
  extend: '延长到 7 天后',
  empty: '清空',
  delete: '删除',
  deleteMailbox: '删除邮箱',
  deleteMailboxQuestion: (address) => `删除 ${address} 及其全部邮件？此操作无法撤销。`,
  emptyAll: '删除全部邮件',
  emptyAllQuestion: (count) => `删除所有邮箱中的全部 ${format.number(count)} 封邮件？此操作无法撤销。`,
  emptyMailbox: '清空邮箱',
  emptyMailboxQuestion: (address) => `删除 ${address} 中的全部邮件？此操作无法撤销。`,

  // 首次访问
  welcomeTitle: '还没有邮件，现在就收一封吧。',
  welcomeLead: '创建一个地址，或者直接发信：服务器接受的任何地址，收到第一封邮件时就会成为邮箱。',
  nothingHere: '这里没有邮件',
  waitingForMail: '正在等待邮件',
  waitingLead: '发往此地址的邮件会自动出现在这里，几乎是即发即到。',
  sendFirst: '发送第一封邮件',
  mailerConfiguration: '发信程序配置',
  copySnippet: (name) => `复制 ${name} 的内容`,

  // 列表
  unread: '未读',
  unreadCount: (count) => `${format.number(count)} 封未读`,
  messageCount: (count) => `${format.number(count)} 封邮件`,
  attachmentCount: (count) => `${format.number(count)} 个附件`,
  allAttachments: (count) => `全部 ${format.number(count)} 个附件`,
  newMessages: (count) => `${format.number(count)} 封新邮件`,
  noSender: '（无发件人）',
  noSubject: '（无主题）',
  noMail: '这里还没有邮件。',
  moveHint: '移动',
  nothingOpen: '选择一封邮件，在这里阅读。',
  selectMessage: (sender) => `选择来自 ${sender} 的邮件`,
  selectedCount: (count) => `已选择 ${format.number(count)} 封`,
  selectAll: '全选',
  clearSelection: '取消选择',
  markRead: '标为已读',
  markUnread: '标为未读',
  deletedCount: (count) => `已删除 ${format.number(count)} 封邮件`,
  undo: '撤销',

  // 搜索
  search: '搜索',
  searchHint: '搜索邮件',
  searchSyntax: '缩小搜索范围的词',
  searchResults: '搜索结果',
  clearSearch: '清除搜索',
  badSearch: (detail) => `无法识别此搜索：${detail}`,
  operators: [
    ['from:ann', '发件人'], ['to:bob', '收件人'], ['subject:order', '主题'], ['has:attachment', '带附件'], ['is:unread', '未读'],
    ['before:2026-11-21', '早于该日'], ['after:2026-11-21', '该日起'], ['larger:2MB', '大于'], ['smaller:10K', '小于'], ['tag:ci', '带此标签'],
    ['-word', '不含该词'], ['"two words"', '相邻的词'], ['word*', '词的开头'], ['a OR b', '任一'],
  ],
  nothingFound: (q) => `没有与“${q}”匹配的邮件。`,

  // 邮件
  views: '查看方式',
  tabs: { html: 'HTML', text: '文本', headers: '邮件头', source: '源码', parts: '部分' },
  to: (names) => `收件人 ${names}`,
  cc: (names) => `抄送 ${names}`,
  addTag: '添加标签',
  removeTag: (tag) => `移除标签 ${tag}`,
  searchTag: (tag) => `查找带标签 ${tag} 的邮件`,
  inMailbox: (address) => `位于 ${address}`,
  download: '下载',
  width: '宽度',
  widths: { phone: '手机宽度', tablet: '平板宽度', full: '全宽' },
  remoteOff: '未加载远程内容，发件人不会知道邮件已被阅读。',
  showOnce: '本次显示',
  damaged: '邮件的部分内容无法解析，源码是完整的。',
  messageGone: '这封邮件已不存在：可能已被删除或已过期。',
  noText: '这封邮件没有文本内容。',
  cut: '其余内容请下载查看。',
  envelope: '信封',
  raw: '原文',
  copyHeaders: '复制全部邮件头',
  copySource: '复制源码',
  copyCode: (code) => `复制验证码 ${code}`,
  copyLink: '复制链接',
  linkCount: (count) => `${format.number(count)} 个链接`,
  searchSource: '在源码中查找',
  matchOf: (at, all) => `第 ${format.number(at)} 个，共 ${format.number(all)} 个`,
  noMatch: '没有匹配',
  previousMatch: '上一个',
  nextMatch: '下一个',
  noParts: '这封邮件没有其他部分。',
  downloadPart: (name) => `下载 ${name}`,
  nothingToRead: '没有可以读出的内容，请下载查看。',
  readout: {
    start: '开始', end: '结束', location: '地点', organizer: '组织者', attendee: '参加者', repeats: '重复', status: '状态',
    description: '备注', email: '邮箱', phone: '电话', organization: '单位', role: '职务', url: '网址', address: '地址', birthday: '生日',
  },

  // 服务器与连接
  failure,
  tryAgain: '重试',
  tryNow: '立即重试',
  askingAgain: (seconds) => (seconds > 0 ? `${seconds} 秒后重试。` : '正在重试。'),
  serverSilent: (seconds) => (seconds > 0 ? `服务器没有响应，${seconds} 秒后重试。` : '服务器没有响应，正在重试。'),
  live: {
    connecting: '连接中',
    live: '实时',
    offline: '离线',
    waiting: (seconds) => `${seconds} 秒后重连`,
  },
  liveHint: {
    connecting: '正在连接服务器',
    live: '新邮件到达时立即显示',
    offline: '此电脑没有网络连接',
    waiting: '连接已断开，不会遗漏邮件。点击立即重试。',
  },

  // 令牌
  tokenTitle: '打开邮箱',
  tokenLead: '在此服务器上，打开邮箱需要创建时给出的令牌。令牌保存在此浏览器中。',
  token: '令牌',
  tokenWrong: '没有可以用此令牌打开的该地址邮箱。',
  openMailbox: '打开',
  openWithToken: '用令牌打开',
  openThisWithToken: (address) => `用令牌打开 ${address}`,
  tokenWelcomeTitle: '新建邮箱，或打开已有邮箱',
  tokenWelcomeLead: '在此服务器上，每个邮箱都用各自的令牌打开。在这里新建邮箱，令牌会保存在此浏览器中；也可以用别人给您的令牌打开邮箱。',
  tokenKept: '此浏览器保存着该邮箱的令牌。要在其他地方打开，请复制令牌：服务器不会再次显示。',
  copyToken: '复制令牌',

  // 设置
  settings: '设置',
  language: '语言',
  notifications: '桌面通知',
  notificationsBlocked: '浏览器不允许此页面发送通知。',
  sound: '新邮件提示音',
  dark: '深色模式',
  toDark: '切换到深色',
  toLight: '切换到浅色',
  apiDocs: 'API 文档',

  keys: {
    move: '下一封',
    moveUp: '上一封',
    open: '打开',
    back: '返回列表',
    select: '选择',
    delete: '删除',
    undo: '撤销删除',
    read: '已读或未读',
    search: '搜索',
    newAddress: '新建地址',
    copy: '复制地址',
    tabs: 'HTML、文本、邮件头、源码、部分',
    allMail: '全部邮件',
    help: '键盘快捷键',
  },
};
