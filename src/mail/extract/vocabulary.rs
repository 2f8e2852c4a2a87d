//! The words around one-time codes, and around the numbers that are none, in the languages that mail comes in.

use std::collections::HashSet;
use std::sync::LazyLock;

/// What a word before or after a number says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A code is near.
    Code,
    /// The number after it is something else: an order, a phone, a price.
    Other,
    None,
}

/// Words that announce a code, in lower case.
const CODE: &str = "\
    code codes passcode otp pin tan 2fa mfa token verification verify passwort password kode kod kodu \
    koden koodi kodas cod codul código codigo códigos codice cifra clave contraseña senha код коду кода \
    кодом пароль пин κωδικός κωδικό رمز الرمز كود קוד कोड mã kód kódot kódja kodunuz codi wachtwoord";

/// Ends of compounds that announce a code (`Einmalcode`, `verificatiecode`, `engångskod`).
const CODE_ENDS: &str = "\
    code kode kod koodi pin tan";

/// Words that end like one and are none, and codes that one does not type in.
const NOT_CODES: &str = "\
    postcode zipcode barcode qrcode decode encode unicode rabattcode gutscheincode promocode \
    kortingscode rabattkod rabatkode rabattkode aktionscode opcode vscode spin japan stan titan sultan \
    tibetan cosmopolitan metropolitan manhattan pakistan kazakhstan charlatan";

/// Words before `code` that make it another thing.
const OTHER_CODES: &str = "\
    promo promotion promotional discount coupon voucher zip postal post source area country qr bar error \
    status tracking dress gift referral tax sort dial dialing swift bic invite product item postale \
    promocional описание";

/// Words before a number that is no code.
const OTHER: &str = "\
    order orders invoice receipt ref reference ticket case tel telephone phone fax mobile call dial zip \
    plz postal iban account customer tracking shipment suite box street room flight version copyright \
    since id transaction ending card bestellung bestellnummer rechnung rechnungsnummer kundennummer \
    vertragsnummer sendungsnummer telefon telefonnummer konto kontonummer artikelnummer vorgangsnummer \
    aktenzeichen pedido factura fatura teléfono telefone commande facture téléphone ordine fattura \
    telefono заказ заказа счет счёт телефон тел bestelling factuur zamówienie faktura beställning \
    siparişiniz sipariş hotline helpline support postcode zipcode port model isbn \
    sku build rfc cve top over about auf won win earn save rabattcode gutscheincode promocode coupon \
    voucher promo referral sms text extension ext";

/// Words after a number that measure or count it.
const UNITS: &str = "\
    minutes minute min mins hours hour seconds second days day minuten stunden tage usd eur euro euros \
    gbp chf kr sek nok dkk rub руб zł pln dollars yen won rs percent prozent people users customers \
    points miles km kg gb mb kb bytes characters digit digits stellig stelligen street avenue ave road \
    rd blvd st messages items january february march april may june july august september october \
    november december";

/// Words before a number that is to be typed in.
const TYPING: &str = "\
    use using enter type input submit verwenden verwende nutzen nutze benutzen geben gib mit utilisez utilise \
    entrez saisissez usa use utilice utiliza introduce introduzca inserisci utilizza insira digite gebruik voer \
    använd ange brug indtast bruk skriv używaj użyj wpisz wprowadź введите используйте girin kullanın";

/// Words right after such a number that lead to what it is for.
const LEADS: &str = "\
    to in into on at when and ein zum zur um bei pour para per a om för for att till om do aby żeby чтобы для при";

/// What it is for.
const ENTERING: &str = "\
    log login logging sign signin signing verify verifying confirm authenticate continue complete proceed unlock \
    access activate reset register anmelden anmeldung anzumelden einloggen einzuloggen bestätigen connecter \
    connexion identifier vérifier confirmer iniciar acceder verificar confirmar entrar accedere verificare \
    confermare inloggen loggen logga bekräfta logge zalogować войти входа подтвердить";

/// Parts of a run of Chinese, Japanese or Korean at whose end a number is to be typed in, and what it is for.
const TYPING_PARTS: &str = "使用 输入 輸入 填写 填寫";
const ENTERING_PARTS: &str = "登录 登入 登錄 验证 驗證 認証 確認 注册 註冊 ログイン 继续 繼續 완료 로그인";

/// Parts of a run of Chinese, Japanese or Korean that announce a code.
const CODE_PARTS: &str = "\
    验证码 驗證碼 校验码 校驗碼 确认码 確認碼 动态码 動態碼 安全码 安全碼 识别码 登录码 \
    登入碼 授权码 动态密码 一次性密码 一次性密碼 認証コード 確認コード 認証番号 確認番号 \
    暗証番号 検証コード セキュリティコード コード パスコード ワンタイムパスワード 인증번호 \
    인증코드 인증 확인코드 보안코드 보안 코드 비밀번호 รหัส";

/// Parts of such a run that name another number.
const OTHER_PARTS: &str = "\
    订单 訂單 单号 單號 电话 電話 热线 客服 邮编 尾号 金额 余额 版本 注文 郵便番号 \
    伝票 お客様番号 会員番号 金額 주문 전화 고객센터 금액 优惠码 优惠券 折扣码 \
    クーポンコード プロモーションコード 郵便 쿠폰 할인 배송 송장 운송장";

/// Parts of such a run that follow a number and measure it.
const UNIT_PARTS: &str = "\
    元 円 원 年 년 分 分钟 天 日 万 人 块 号楼 位 桁";

/// The lists as they are asked.
struct Lists {
    code: HashSet<&'static str>,
    code_ends: Vec<&'static str>,
    not_codes: HashSet<&'static str>,
    other_codes: HashSet<&'static str>,
    other: HashSet<&'static str>,
    units: HashSet<&'static str>,
    code_parts: Vec<&'static str>,
    other_parts: Vec<&'static str>,
    unit_parts: Vec<&'static str>,
    typing: HashSet<&'static str>,
    leads: HashSet<&'static str>,
    entering: HashSet<&'static str>,
    typing_parts: Vec<&'static str>,
    entering_parts: Vec<&'static str>,
}

static LISTS: LazyLock<Lists> = LazyLock::new(|| Lists {
    code: CODE.split_whitespace().collect(),
    code_ends: CODE_ENDS.split_whitespace().collect(),
    not_codes: NOT_CODES.split_whitespace().collect(),
    other_codes: OTHER_CODES.split_whitespace().collect(),
    other: OTHER.split_whitespace().collect(),
    units: UNITS.split_whitespace().collect(),
    code_parts: CODE_PARTS.split_whitespace().collect(),
    other_parts: OTHER_PARTS.split_whitespace().collect(),
    unit_parts: UNIT_PARTS.split_whitespace().collect(),
    typing: TYPING.split_whitespace().collect(),
    leads: LEADS.split_whitespace().collect(),
    entering: ENTERING.split_whitespace().collect(),
    typing_parts: TYPING_PARTS.split_whitespace().collect(),
    entering_parts: ENTERING_PARTS.split_whitespace().collect(),
});

/// What a word says; `before` is the word in front of it, both in lower case.
pub(super) fn hint(word: &str, before: &str) -> Hint {
    let lists = &*LISTS;
    let names_code = ["cod", "cód", "kod"].iter().any(|part| word.contains(part));
    if lists.not_codes.contains(word) {
        return if names_code { Hint::Other } else { Hint::None };
    }
    let code = lists.code.contains(word) || (word.len() > 6 && lists.code_ends.iter().any(|end| word.ends_with(end)));
    if code && names_code && lists.other_codes.contains(before) {
        Hint::Other
    } else if code {
        Hint::Code
    } else if lists.other.contains(word) {
        Hint::Other
    } else {
        Hint::None
    }
}

/// What a run of a script without spaces says about a number after it: what stands nearest to its end.
pub(super) fn run_hint(run: &str) -> Hint {
    let last = |parts: &[&str]| parts.iter().filter_map(|part| run.rfind(part).map(|at| at + part.len())).max();
    match (last(&LISTS.code_parts), last(&LISTS.other_parts)) {
        (Some(code), Some(other)) if other >= code => Hint::Other,
        (Some(_), _) => Hint::Code,
        (None, Some(_)) => Hint::Other,
        (None, None) => Hint::None,
    }
}

/// Whether the word right before a number makes it an amount.
pub(super) fn is_currency(word: &str) -> bool {
    matches!(word, "usd" | "eur" | "gbp" | "chf" | "rs" | "inr" | "rub" | "sek" | "nok" | "dkk" | "pln" | "jpy" | "cny")
}

/// Whether the word after a number makes it an amount.
pub(super) fn is_unit(word: &str) -> bool {
    LISTS.units.contains(word) || LISTS.unit_parts.iter().any(|unit| word.starts_with(unit))
}

/// Whether a number after this word may be one to type in.
pub(super) fn is_typing(word: &str) -> bool {
    LISTS.typing.contains(word) || LISTS.typing_parts.iter().any(|part| word.ends_with(part))
}

/// Whether this word, right after such a number, leads to what it is for.
pub(super) fn leads_to_entering(word: &str) -> bool {
    LISTS.leads.contains(word) || LISTS.entering_parts.iter().any(|part| word.contains(part))
}

/// Whether this is what a number is typed in for.
pub(super) fn is_entering(word: &str) -> bool {
    LISTS.entering.contains(word) || LISTS.entering_parts.iter().any(|part| word.contains(part))
}
